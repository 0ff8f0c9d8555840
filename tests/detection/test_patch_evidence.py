import pytest
import torch
from torch import Tensor, nn

from fedmend.detection import Case
from fedmend.detection.patch_evidence import Evidence, measure_patch, most_frequent_target
from fedmend.detection.search.penalty_search import Recovered
from fedmend.triggers import Patch


class By(nn.Module):
    """Logits by the brightness of the first pixel: of images that are stamped, and of those that aren't."""

    def __init__(self, stamped: Tensor, clean: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(
            torch.stack([nn.functional.one_hot(each, 3).float() for each in (clean, stamped)])
        )

    def forward(self, images: Tensor) -> Tensor:
        which = (images[:, 0, 0, 0] > 0.5).long()
        return 2 * self.logits[which, torch.arange(len(images))]


@pytest.mark.parametrize("labels", [True, False])
def test_the_evidence_by_hand(labels: bool) -> None:
    """Two of the four images of other classes go to 1. Without labels, the reference's predictions are the truth."""
    truth = torch.tensor([0, 0, 1, 1, 2, 2])
    suspect, reference = By(torch.tensor([1, 0, 1, 2, 1, 2]), truth), By(1 - truth.clamp_max(1), truth)
    mask = torch.zeros(1, 2, 5)
    mask[0, 0, 0] = 1
    mask[0, 1, 1] = 0.5
    found = Recovered(Patch(mask, torch.ones(1, 2, 5)), (), "", converged=False)
    case = Case(suspect, reference, torch.zeros(6, 1, 2, 5), truth if labels else None, ("a", "b", "c"))
    # Three of six images change their class, each by two logits of 2: 8 each.
    assert measure_patch(case, "logits", found) == Evidence(
        target=1,
        target_name="b",
        mse=3 * 8 / 6,
        reasr=2 / 4,
        mask_fraction=1.5 / 10,
        converged=False,
    )


def test_the_most_frequent_target_by_hand() -> None:
    labels = torch.tensor([0, 0, 0, 1, 2, 2])
    # To 1: two of the five images of other classes; to 2: one of four; to 0: none. Right answers don't count.
    predictions = torch.tensor([1, 2, 0, 1, 1, 2])
    assert most_frequent_target(predictions, labels, 3) == (1, pytest.approx(2 / 5))
    assert most_frequent_target(labels, labels, 3) == (0, 0.0)


def test_a_class_of_many_images_is_not_the_target_for_that() -> None:
    """The mode of the predictions is class 0, but the only images sent anywhere go to class 1."""
    labels = torch.tensor([0] * 8 + [2, 2])
    predictions = torch.tensor([0] * 8 + [1, 1])
    assert most_frequent_target(predictions, labels, 3) == (1, pytest.approx(2 / 10))


def test_a_target_without_images_of_its_own() -> None:
    assert most_frequent_target(torch.tensor([3, 3, 3]), torch.tensor([0, 1, 2]), 4) == (3, 1.0)
