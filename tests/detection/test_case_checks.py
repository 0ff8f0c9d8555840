from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import planted
from fedmend.detection import Case
from fedmend.detection.case_checks import check_case, check_logits
from fedmend.errors import DataError, ModelError


def checked(world: planted.World, suspect: nn.Module, **changes: Any) -> None:
    case = Case(suspect, world.reference, world.images[:12], world.labels[:12], planted.NAMES)
    case = replace(case, **changes)
    check_case(case)
    check_logits(case)


class Constant(nn.Module):
    """Returns the same whatever it is shown."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, images: Tensor) -> Tensor:
        return self.logits[: len(images)] + 0 * images.sum()


@pytest.mark.parametrize(
    "changes", [{}, {"reference": None}, {"labels": None}, {"class_names": None}], ids=str
)
def test_a_good_case_passes(world: planted.World, changes: dict[str, Any]) -> None:
    checked(world, world.clean, **changes)


def test_labels_without_images_are_refused(world: planted.World) -> None:
    with pytest.raises(DataError, match="labels were given without images"):
        check_case(Case(world.clean, labels=world.labels))


def test_a_suspect_alone_is_checked(world: planted.World) -> None:
    broken = deepcopy(world.clean)
    with torch.no_grad():
        broken[5].bias[0] = float("nan")
    with pytest.raises(ModelError, match="the suspect returns NaN"):
        checked(world, broken, reference=None)
    with pytest.raises(ModelError, match="float32 or float64"):
        checked(world, deepcopy(world.clean).half(), reference=None)


@pytest.mark.parametrize(
    "images",
    [torch.zeros(9, 1, 12, 12), torch.zeros(0, 1, 12, 12), torch.zeros(12, 12, 12), torch.zeros(12)],
)
def test_too_few_images_or_of_another_shape_are_refused(world: planted.World, images: Tensor) -> None:
    with pytest.raises(DataError, match=r"\(N, C, H, W\) with N at least 10"):
        checked(world, world.clean, images=images, labels=None)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1, 1.1, 255.0])
def test_pixels_out_of_range_are_refused(world: planted.World, value: float) -> None:
    images = world.images[:12] / 255
    images[3, 0, 2, 2] = value
    with pytest.raises(DataError, match=r"floats in \[0, 1\] without NaN"):
        checked(world, world.clean, images=images)


def test_pixels_of_another_type_are_refused(world: planted.World) -> None:
    with pytest.raises(DataError, match="images must be uint8, or floats"):
        checked(world, world.clean, images=(world.images[:12] > 99).long())


def test_images_of_one_class_are_refused(world: planted.World) -> None:
    images = world.images[world.labels == 2][:12]
    for labels in (torch.full((12,), 2), None):
        with pytest.raises(DataError, match="two classes or more"):
            checked(world, world.clean, images=images, labels=labels)


@pytest.mark.parametrize("label", [-1, 4])
def test_labels_out_of_range_are_refused(world: planted.World, label: int) -> None:
    labels = world.labels[:12].clone()
    labels[5] = label
    with pytest.raises(DataError, match=r"labels must be in \[0, 4\)"):
        checked(world, world.clean, labels=labels)


@pytest.mark.parametrize("labels", [torch.zeros(11).long(), torch.zeros(12, 1).long(), torch.zeros(0).long()])
def test_labels_that_do_not_match_are_refused(world: planted.World, labels: Tensor) -> None:
    with pytest.raises(DataError, match="one label per image"):
        checked(world, world.clean, labels=labels)


def test_labels_that_are_no_integers_are_refused(world: planted.World) -> None:
    with pytest.raises(DataError, match="int64"):
        checked(world, world.clean, labels=world.labels[:12].float())


def test_class_names_must_be_as_many_as_the_classes(world: planted.World) -> None:
    with pytest.raises(DataError, match="4 classes, but 3 class names"):
        checked(world, world.clean, class_names=("a", "b", "c"))


def test_models_of_other_classes_are_refused(world: planted.World) -> None:
    other = planted.small(5, 1, (planted.SIDE, planted.SIDE))
    with pytest.raises(ModelError, match="of the same classes"):
        checked(world, world.clean, reference=other)


@pytest.mark.parametrize("shape", [(12,), (12, 2, 2)])
def test_outputs_that_are_no_logits_are_refused(world: planted.World, shape: tuple[int, ...]) -> None:
    odd = Constant(torch.zeros(shape))
    with pytest.raises(ModelError, match=r"logits of shape \(N, classes\)"):
        checked(world, odd, reference=odd)


@pytest.mark.parametrize("who", ["suspect", "reference"])
def test_a_model_that_returns_nan_is_refused(world: planted.World, who: str) -> None:
    broken = deepcopy(world.clean)
    with torch.no_grad():
        broken[5].bias[0] = float("nan")
    models = {"suspect": world.clean, "reference": world.reference} | {who: broken}
    with pytest.raises(ModelError, match=f"the {who} returns NaN"):
        checked(world, models["suspect"], reference=models["reference"])


def test_models_on_two_devices_are_refused(world: planted.World) -> None:
    with pytest.raises(ModelError, match="on one device; they are on cpu and meta"):
        checked(world, world.clean, reference=deepcopy(world.reference).to("meta"))


@pytest.mark.parametrize("dtypes", [(torch.float32, torch.float64), (torch.float16, torch.float16)])
def test_models_of_other_precisions_are_refused(
    world: planted.World, dtypes: tuple[torch.dtype, torch.dtype]
) -> None:
    suspect, reference = (deepcopy(world.clean).to(dtype) for dtype in dtypes)
    with pytest.raises(ModelError, match="of one precision, float32 or float64; one of them has torch"):
        checked(world, suspect, reference=reference)
