import pytest
import torch
from torch import Tensor, nn

from fedmend.errors import DataError
from fedmend.evaluation import accuracy, attack_success_rate, feature_mse, mask_iou
from fedmend.inference import BATCH_SIZE, device_of, evaluating, predict
from fedmend.triggers import Patch


class Corner(nn.Module):
    """Answers the number in the first pixel, 0 to 3, written as tenths; 3 also if the second pixel is bright."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(10.0))
        self.largest_batch = 0

    def forward(self, images: Tensor) -> Tensor:
        self.largest_batch = max(self.largest_batch, len(images))
        answer = (images[:, 0, 0, 0] * self.scale).round().long()
        answer = torch.where(images[:, 0, 0, 1] > 0.5, 3, answer)
        return nn.functional.one_hot(answer, 4).float()


def images_of(*answers: int) -> Tensor:
    images = torch.zeros(len(answers), 1, 2, 2)
    images[:, 0, 0, 0] = torch.tensor(answers) / 10
    return images


def bright_second_pixel() -> Patch:
    mask = torch.tensor([[[0.0, 1.0], [0.0, 0.0]]])
    return Patch(mask, torch.ones(1, 2, 2))


def modes(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


def partly_frozen() -> nn.Sequential:
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
    model.train()
    model[1].eval()
    return model


def test_accuracy_counts_right_answers() -> None:
    assert accuracy(Corner(), images_of(0, 1, 2, 2), torch.tensor([0, 1, 2, 0])) == 0.75


def test_accuracy_needs_an_image() -> None:
    with pytest.raises(DataError, match="at least one image"):
        accuracy(Corner(), torch.zeros(0, 1, 2, 2), torch.zeros(0, dtype=torch.int64))


def test_predictions_are_made_in_batches_and_in_order() -> None:
    model, answers = Corner(), [index % 3 for index in range(BATCH_SIZE + 2)]
    assert predict(model, images_of(*answers)).tolist() == answers
    assert model.largest_batch == BATCH_SIZE


def test_bytes_and_floats_get_the_same_answer() -> None:
    floats = images_of(0, 1, 2)
    stored = (floats * 255).round().to(torch.uint8)
    assert predict(Corner(), stored).tolist() == predict(Corner(), floats).tolist() == [0, 1, 2]


def test_asr_leaves_out_the_targets_own_images() -> None:
    # Three images of class 3, which would be "sent" to 3 by any trigger, and four others.
    images, labels = images_of(3, 3, 3, 0, 1, 2, 0), torch.tensor([3, 3, 3, 0, 1, 2, 0])
    no_op = Patch(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2))
    assert attack_success_rate(Corner(), no_op, images, labels, 3) == 0.0
    assert attack_success_rate(Corner(), bright_second_pixel(), images, labels, 3) == 1.0


def test_asr_counts_a_natural_mistake_for_the_target_too() -> None:
    # The share is of stamped images sent to the target, whatever the model said before.
    images, labels = images_of(3, 0, 1, 2), torch.tensor([0, 0, 1, 3])
    no_op = Patch(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2))
    assert attack_success_rate(Corner(), no_op, images, labels, 3) == pytest.approx(1 / 3)


def test_asr_of_another_target_is_zero() -> None:
    images, labels = images_of(0, 1, 2), torch.tensor([0, 1, 2])
    assert attack_success_rate(Corner(), bright_second_pixel(), images, labels, 1) == 0.0


def test_asr_needs_an_image_of_another_class() -> None:
    with pytest.raises(DataError, match=r"other than the target \(3\)"):
        attack_success_rate(Corner(), bright_second_pixel(), images_of(3), torch.tensor([3]), 3)


def test_asr_of_an_attack_on_one_class_is_over_its_images_alone() -> None:
    images, labels = images_of(0, 1, 1, 1, 2, 3), torch.tensor([0, 1, 1, 0, 2, 3])
    no_op = Patch(torch.zeros(1, 2, 2), torch.zeros(1, 2, 2))
    assert attack_success_rate(Corner(), bright_second_pixel(), images, labels, 3, victim_class=1) == 1.0
    assert attack_success_rate(Corner(), no_op, images, labels, 3, victim_class=1) == 0.0
    # Of the two images of class 0 one is taken for a 1 anyhow.
    assert attack_success_rate(Corner(), no_op, images, labels, 1, victim_class=0) == 0.5
    assert attack_success_rate(Corner(), no_op, images, labels, 1) == pytest.approx(1 / 4)


def test_asr_on_a_victim_class_needs_an_image_of_it() -> None:
    with pytest.raises(DataError, match=r"no image of the victim class \(2\)"):
        attack_success_rate(Corner(), bright_second_pixel(), images_of(0, 1), torch.tensor([0, 1]), 3, 2)


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


def test_every_modules_mode_is_put_back_after_a_prediction() -> None:
    model = partly_frozen()
    before, statistics = modes(model), model[1].running_mean.clone()
    first = predict(model, torch.rand(6, 1, 2, 2))
    assert modes(model) == before
    assert before != [True] * 5
    assert torch.equal(model[1].running_mean, statistics)
    assert first.dtype == torch.int64
    assert not first.requires_grad


def test_modes_are_put_back_after_an_error() -> None:
    model = partly_frozen()
    before = modes(model)
    with pytest.raises(RuntimeError):
        predict(model, torch.rand(6, 1, 3, 3))
    assert modes(model) == before
    with pytest.raises(KeyboardInterrupt), evaluating(model):
        raise KeyboardInterrupt
    assert modes(model) == before


def test_evaluating_turns_all_parts_to_eval_mode() -> None:
    model = partly_frozen()
    with evaluating(model):
        assert not any(modes(model))


def test_a_model_without_parameters_is_on_the_cpu() -> None:
    assert device_of(nn.Flatten()) == torch.device("cpu")
    assert device_of(nn.Linear(1, 1)) == torch.device("cpu")
