import pytest
import torch

from fedmend.detection import Case
from fedmend.errors import ConfigError, DataError
from fedmend.models import build_model
from fedmend.repairs.held_out_images import split


def case_of(count: int, labels: int | None = None) -> Case:
    images = torch.arange(count, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 1, 8, 8) / max(1, count)
    model = build_model("convnet", num_classes=2, in_channels=1, image_size=(8, 8), seed=0)
    return Case(model, None, images, torch.arange(count if labels is None else labels) % 2)


def test_every_image_is_on_one_side_with_its_label() -> None:
    case = case_of(40)
    own, (images, labels) = split(case, 0.25, seed=3)
    assert own.images is not None
    assert own.labels is not None
    assert len(images) == 10
    both = torch.cat([own.images, images])[:, 0, 0, 0].mul(40).round().long()
    assert both.sort().values.tolist() == list(range(40))
    assert torch.equal(torch.cat([own.labels, labels]), both % 2)
    assert torch.equal(split(case, 0.25, seed=3)[1][0], images)
    assert not torch.equal(split(case, 0.25, seed=4)[1][0], images)


@pytest.mark.parametrize("case", [case_of(19), case_of(20, labels=19)])
def test_too_few_images_or_labels_are_refused(case: Case) -> None:
    with pytest.raises(DataError, match="at least 20 images with one label per image"):
        split(case, 0.5, seed=0)


def test_a_fraction_that_leaves_too_few_is_refused() -> None:
    assert len(split(case_of(20), 0.5, seed=0)[1][0]) == 10
    with pytest.raises(ConfigError, match="leaves 9 of 20"):
        split(case_of(20), 0.55, seed=0)
