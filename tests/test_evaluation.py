import pytest
import torch
from torch import Tensor, nn

from fedmend.errors import DataError
from fedmend.evaluation import accuracy, attack_success_rate, feature_mse, mask_iou
from fedmend.goals import AllToAll, AllToOne, OneToOne, Several
from fedmend.triggers import Patch


class Corner(nn.Module):
    """Predicts the number in the first pixel, 0 to 3, written as tenths; 3 also if the second pixel is bright."""

    def forward(self, images: Tensor) -> Tensor:
        classes = (images[:, 0, 0, 0] * 10).round().long()
        classes = torch.where(images[:, 0, 0, 1] > 0.5, 3, classes)
        return nn.functional.one_hot(classes, 4).float()


class Next:
    """A trigger that is no patch: it raises the number in the first pixel by one, 3 to 0."""

    def apply(self, images: Tensor) -> Tensor:
        stamped = images.clone()
        stamped[:, 0, 0, 0] = ((images[:, 0, 0, 0] * 10).round() + 1) % 4 / 10
        return stamped


NO_OP = Patch(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2))
BRIGHT_SECOND_PIXEL = Patch(torch.tensor([[[0.0, 1.0], [0.0, 0.0]]]), torch.ones(1, 2, 2))


def images_of(*classes: int) -> Tensor:
    images = torch.zeros(len(classes), 1, 2, 2)
    images[:, 0, 0, 0] = torch.tensor(classes) / 10
    return images


def test_accuracy_counts_right_predictions() -> None:
    assert accuracy(Corner(), images_of(0, 1, 2, 2), torch.tensor([0, 1, 2, 0])) == 0.75


def test_accuracy_needs_an_image() -> None:
    with pytest.raises(DataError, match="at least one image"):
        accuracy(Corner(), torch.zeros(0, 1, 2, 2), torch.zeros(0, dtype=torch.int64))


def test_asr_leaves_out_the_targets_own_images() -> None:
    # Three images of class 3, which would be "sent" to 3 by any trigger, and four others.
    images, labels = images_of(3, 3, 3, 0, 1, 2, 0), torch.tensor([3, 3, 3, 0, 1, 2, 0])
    assert attack_success_rate(Corner(), NO_OP, AllToOne(3), images, labels) == 0.0
    assert attack_success_rate(Corner(), BRIGHT_SECOND_PIXEL, AllToOne(3), images, labels) == 1.0


def test_asr_counts_a_natural_mistake_for_the_target_too() -> None:
    # The fraction is of stamped images sent to the target, whatever the model said before.
    images, labels = images_of(3, 0, 1, 2), torch.tensor([0, 0, 1, 3])
    assert attack_success_rate(Corner(), NO_OP, AllToOne(3), images, labels) == pytest.approx(1 / 3)


def test_asr_of_another_target_is_zero() -> None:
    images, labels = images_of(0, 1, 2), torch.tensor([0, 1, 2])
    assert attack_success_rate(Corner(), BRIGHT_SECOND_PIXEL, AllToOne(1), images, labels) == 0.0


def test_asr_needs_an_image_of_another_class() -> None:
    with pytest.raises(DataError, match=r"target=3\) attacks; got only images of classes \[3\]"):
        attack_success_rate(Corner(), BRIGHT_SECOND_PIXEL, AllToOne(3), images_of(3), torch.tensor([3]))


def test_asr_of_one_to_one_is_over_the_source_classs_images_alone() -> None:
    images, labels = images_of(0, 1, 1, 1, 2, 3), torch.tensor([0, 1, 1, 0, 2, 3])
    assert attack_success_rate(Corner(), BRIGHT_SECOND_PIXEL, OneToOne(1, 3), images, labels) == 1.0
    assert attack_success_rate(Corner(), NO_OP, OneToOne(1, 3), images, labels) == 0.0
    # Of the two images of class 0 one is taken for a 1 anyhow.
    assert attack_success_rate(Corner(), NO_OP, OneToOne(0, 1), images, labels) == 0.5
    assert attack_success_rate(Corner(), NO_OP, AllToOne(1), images, labels) == pytest.approx(1 / 4)


def test_asr_of_one_to_one_needs_an_image_of_the_source() -> None:
    with pytest.raises(DataError, match=r"source=2, target=3\) attacks; got only images of classes \[0, 1\]"):
        attack_success_rate(
            Corner(), BRIGHT_SECOND_PIXEL, OneToOne(2, 3), images_of(0, 1), torch.tensor([0, 1])
        )


def test_asr_of_several_pairs_counts_each_image_by_its_own_target() -> None:
    images, labels = images_of(0, 0, 1, 2, 3), torch.tensor([0, 0, 1, 2, 3])
    goal = Several(((0, 3), (1, 2)))  # the bright pixel sends 0 to 3, as wanted, and 1 to 3, not to 2
    assert attack_success_rate(Corner(), BRIGHT_SECOND_PIXEL, goal, images, labels) == pytest.approx(2 / 3)


def test_asr_of_all_to_all_with_a_trigger_that_is_no_patch() -> None:
    images, labels = images_of(0, 1, 2, 3), torch.tensor([0, 1, 2, 3])
    assert attack_success_rate(Corner(), Next(), AllToAll(4), images, labels) == 1.0
    assert attack_success_rate(Corner(), NO_OP, AllToAll(4), images, labels) == 0.0
    assert attack_success_rate(Corner(), BRIGHT_SECOND_PIXEL, AllToAll(4), images, labels) == 0.25


def test_feature_mse_is_the_mean_of_squared_norms() -> None:
    clean = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    stamped = torch.tensor([[3.0, 4.0], [1.0, 2.0]])
    # Squared norms 25 and 1; their mean, not divided by the two features.
    assert feature_mse(clean, stamped) == 13.0
    assert feature_mse(stamped, clean) == 13.0
    assert feature_mse(clean, clean) == 0.0


def test_feature_mse_does_not_lose_small_terms() -> None:
    clean = torch.zeros(1, 2)
    stamped = torch.tensor([[4096.0, 1.0]])
    assert feature_mse(clean, stamped) == 4096.0**2 + 1


def test_mask_iou_by_hand() -> None:
    mask = torch.tensor([[[1.0, 0.5], [0.49, 0.0]]])
    other = torch.tensor([[[0.9, 0.1], [0.9, 0.9]]])
    # At or above 0.5: {0, 1} and {0, 2, 3}: one of four.
    assert mask_iou(mask, other) == 0.25
    assert mask_iou(mask, other, level=0.4) == 0.5
    assert mask_iou(mask, mask) == 1.0
    assert mask_iou(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2)) == 0.0
