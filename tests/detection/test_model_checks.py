"""Models that misbehave when they predict: noticed before a search, named in one line, and nothing else harmed."""

import random
import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from fedmend.detection import Case
from fedmend.detection.model_checks import check_predictions, require_gradient, require_slope
from fedmend.errors import ModelError
from fedmend.inference import model_failures_named
from fedmend.seeds import generator

IMAGES = torch.rand(12, 1, 2, 2, generator=generator(5))


class Does(nn.Module):
    """Does something to its input, then predicts."""

    def __init__(self, does: Callable[[nn.Module, Tensor], Any] = lambda _, images: images) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.register_buffer("calls", torch.zeros(()))
        self.does = does
        self.asked = 0

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.does(self, images).flatten(1))
        return logits


def after(does: Callable[..., Any]) -> Callable[..., Tensor]:
    """Does something besides."""

    def both(model: nn.Module, images: Tensor) -> Tensor:
        does(model)
        return images

    return both


def counts_in_python(model: Any, images: Tensor) -> Tensor:
    model.asked += 1
    return images * model.asked


def only(*sizes: int) -> Callable[..., Tensor]:
    def check(_: nn.Module, images: Tensor) -> Tensor:
        if len(images) not in sizes:
            raise ValueError("another batch size,\nplease")
        return images

    return check


@pytest.mark.parametrize("does", [lambda _, images: images, lambda _, images: images.mul_(2)])
def test_good_models_pass_also_those_that_work_in_place(does: Any) -> None:
    kept = IMAGES.clone()
    check_predictions(Case(Does(does), Does(does), IMAGES))
    require_gradient(Does(does), IMAGES, "it")
    assert torch.equal(IMAGES, kept)


@pytest.mark.parametrize(
    ("does", "message"),
    [
        (after(lambda model: model.calls.add_(1)), "changes its own calls when it predicts"),
        (after(lambda model: model.head.bias.add_(1)), "changes its own head.bias when it predicts"),
        (counts_in_python, "returns other logits for the same images when it is asked again"),
        (lambda _, images: dropout(images), "asked again .*dropout"),
        (lambda _, images: images + torch.rand_like(images), "asked again"),
        (after(lambda _: torch.set_default_dtype(torch.float64)), "changes the default dtype"),
        (
            after(lambda _: torch.set_num_threads(torch.get_num_threads() + 1)),
            "changes the number of threads",
        ),
        (after(lambda _: torch.use_deterministic_algorithms(True)), "changes deterministic algorithms"),
        (after(lambda _: torch.manual_seed(0)), "sets the seed of torch's random generator"),
        (after(lambda _: np.random.seed(0)), "sets the seed of NumPy's"),
        (after(lambda _: random.seed(0)), "sets the seed of Python's"),
        (only(2), r"failed on images .*\(1, 1, 2, 2\): ValueError: another batch size, please"),
        (only(1, 2), r"failed on images .*\(8, 1, 2, 2\)"),
        (lambda _, images: images.view(-1, 8, 2, 2), "failed|returned"),
        (after(lambda _: sys.exit(0)), "SystemExit: 0"),
        (after(lambda _: exec("raise KeyboardInterrupt")), "KeyboardInterrupt"),
    ],
)
@pytest.mark.parametrize("role", ["suspect", "reference"])
def test_what_is_noticed(does: Any, message: str, role: str) -> None:
    models = {"suspect": Does(), "reference": Does(), role: Does(does)}
    before = settings()
    with pytest.raises(ModelError, match=message) as caught:
        check_predictions(Case(**models, images=IMAGES))
    assert f"the {role}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert settings() == before
    assert models[role].calls == 0


def settings() -> tuple[Any, ...]:
    return (
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_rng_state().sum(),
        random.getstate(),
        str(np.random.get_state()),
    )


@pytest.mark.parametrize(
    ("does", "message"),
    [
        (lambda _, images: images.detach(), "it passes no gradient to its input"),
        (after(lambda _: torch.set_grad_enabled(False)), "switches gradients off"),
        (lambda _, images: (images > 0.5).float(), "it passes no gradient to its input"),
        (
            lambda _, images: images.detach().numpy() if not images.requires_grad else 1 / 0,
            "failed when gradients",
        ),
    ],
)
def test_gradients_are_required_of_a_search(does: Any, message: str) -> None:
    with torch.no_grad(), pytest.raises(ModelError, match=message):
        require_gradient(Does(does).requires_grad_(False), IMAGES, "it")


@pytest.mark.parametrize(
    "does",
    [
        lambda _, images: (images.flatten(1)[:, :4] * 255).round(),
        lambda _, images: (images.flatten(1)[:, :4] * 1e6).softmax(1),
    ],
    ids=["rounded", "saturated"],
)
def test_a_gradient_of_zeros_is_none(does: Any) -> None:
    model = Does(does).requires_grad_(False)
    require_gradient(model, IMAGES, "it")
    with torch.no_grad(), pytest.raises(ModelError, match="it's gradient at the pixels is zero everywhere"):
        require_slope(model, IMAGES, "it")


def test_a_softmaxs_small_gradient_is_one() -> None:
    require_slope(Does(lambda _, images: images.flatten(1)[:, :4].softmax(1)), IMAGES, "it")


def test_a_later_failure_names_the_models_own_line() -> None:
    def fails(_: nn.Module, images: Tensor) -> Tensor:
        raise SystemExit(0)

    model = nn.Sequential(Does(fails))
    where = rf"the model failed at {re.escape(__file__)}:\d+: SystemExit: 0"
    with pytest.raises(ModelError, match=where), model_failures_named(model):
        model(IMAGES)
    with pytest.raises(ZeroDivisionError), model_failures_named(nn.Flatten()):
        1 / 0  # noqa: B018
    with pytest.raises(ModelError, match="in its own words"), model_failures_named(model):
        raise ModelError("in its own words")
