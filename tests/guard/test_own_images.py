"""A guard that could never accept a model is refused when it is made."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from guarded_nets import Net, images, net
from torch import Tensor, nn

from fedmend.errors import ConfigError, DataError, FedmendError, ModelError
from fedmend.guard import Guard
from fedmend.inference import predict

Make = Callable[..., Guard]
PIXELS, LABELS = images(40)


class Noisy(Net):
    """Draws at random."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + torch.rand(4)


class Remembering(Net):
    """Keeps something besides tensors with its weights."""

    def get_extra_state(self) -> dict[str, int]:
        return {"steps": 1}

    def set_extra_state(self, state: object) -> None:
        pass


class Overflowing(Net):
    """Not trained yet: its weights say nothing about a candidate's."""

    def __init__(self) -> None:
        super().__init__()
        nn.init.constant_(self.head.weight, float("nan"))


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (
            {"labels": LABELS - (LABELS == 0).long()},
            DataError,
            r"labels must be in \[0, 4\).*got -1 to 3: number",
        ),
        ({"labels": LABELS + 2}, DataError, r"labels must be in \[0, 4\).*got 2 to 5"),
        ({"labels": LABELS * 0}, DataError, "two classes or more; all given ones are of one class: add"),
        ({"class_names": tuple("abc")}, DataError, "have 4 classes, but 3 class names were given; give one"),
        ({"images": PIXELS[..., :3]}, ModelError, r"the guard's model failed on images .*\(\d, 1, 4, 3\)"),
        ({"model": Noisy, "trusted": None}, ModelError, "the guard's model returns other logits"),
        ({"model": Remembering}, ModelError, "state_dict must hold tensors alone; _extra_state is a dict"),
    ],
    ids=[
        "negative-label",
        "label-too-high",
        "one-class",
        "class-names",
        "image-size",
        "random",
        "extra-state",
    ],
)
def test_images_that_do_not_fit_the_model_are_refused(
    guard: Make, tmp_path: Path, given: dict[str, Any], error: type[FedmendError], message: str
) -> None:
    with pytest.raises(error, match=message):
        guard(given)
    assert not (tmp_path / "history").exists()


@pytest.mark.parametrize(
    ("count", "policy", "error", "message"),
    [
        (
            40,
            {"images_per_class": 2},
            ConfigError,
            "a scan needs at least 10 .* makes 8 .*: choose 3 or more$",
        ),
        (
            40,
            {"images_per_class": 4, "repair": "unlearn"},
            ConfigError,
            'a repair needs at least 20 .* makes 16 .*: choose 5 or more, or choose repair = "none"',
        ),
        (19, {"repair": "unlearn"}, DataError, 'at least 20 images; the guard has 19: give more, .* "none"'),
        (9, {}, DataError, "N at least 10; got"),
    ],
    ids=["scan-per-class", "repair-per-class", "repair-in-all", "scan-in-all"],
)
def test_too_few_images_are_refused(
    guard: Make, count: int, policy: dict[str, Any], error: type[FedmendError], message: str
) -> None:
    with pytest.raises(error, match=message):
        guard({"images": PIXELS[:count], "labels": LABELS[:count]}, **policy)


@pytest.mark.parametrize(
    ("count", "policy"),
    [
        (40, {"images_per_class": 3}),
        (40, {"images_per_class": 5, "repair": "unlearn"}),
        (10, {}),
        (20, {"repair": "unlearn"}),
    ],
)
def test_just_enough_images_are_enough(guard: Make, count: int, policy: dict[str, Any]) -> None:
    made = guard({"images": PIXELS[:count], "labels": LABELS[:count]}, **policy)
    assert made.review(net(seed=1), 1).action == "accept"


def test_labels_need_not_name_all_classes(guard: Make) -> None:
    """A class without an image can still be predicted."""
    kept = LABELS < 3
    trusted = net()
    trusted.head.bias.data[3] += 2.2
    predicted = predict(trusted, PIXELS[kept])
    assert 0 < int((predicted == 3).sum()) < 15
    made = guard({"images": PIXELS[kept], "labels": LABELS[kept], "trusted": trusted})
    assert made.review(net(seed=1), 1).action == "accept"


def test_the_values_of_the_architecture_do_not_count(guard: Make) -> None:
    assert guard({"model": Overflowing}).review(net(seed=1), 1).action == "accept"
