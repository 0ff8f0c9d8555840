import pytest
import torch
from torch import Tensor, nn

import planted
from fedmend.detection.search.few_pixels import FewPixels, few_pixel_triggers
from fedmend.evaluation import accuracy, attack_success_rate
from fedmend.goals import AllToOne
from fedmend.inference import BATCH_SIZE, device_of, evaluating, frozen, pixels_for, predict
from fedmend.triggers import Patch


class Corner(nn.Module):
    """Predicts the number in the first pixel, 0 to 3, written as tenths; 3 also if the second pixel is bright."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(10.0))
        self.largest_batch = 0

    def forward(self, images: Tensor) -> Tensor:
        self.largest_batch = max(self.largest_batch, len(images))
        predicted = (images[:, 0, 0, 0] * self.scale).round().long()
        predicted = torch.where(images[:, 0, 0, 1] > 0.5, 3, predicted)
        return nn.functional.one_hot(predicted, 4).float()


def images_of(*classes: int) -> Tensor:
    images = torch.zeros(len(classes), 1, 2, 2)
    images[:, 0, 0, 0] = torch.tensor(classes) / 10
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


def test_predictions_are_made_in_batches_and_in_order() -> None:
    model, classes = Corner(), [index % 3 for index in range(BATCH_SIZE + 2)]
    assert predict(model, images_of(*classes)).tolist() == classes
    assert model.largest_batch == BATCH_SIZE


def test_bytes_and_floats_get_the_same_predictions() -> None:
    floats = images_of(0, 1, 2)
    stored = (floats * 255).round().to(torch.uint8)
    assert predict(Corner(), stored).tolist() == predict(Corner(), floats).tolist() == [0, 1, 2]


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


def test_a_trigger_is_stamped_first_on_every_batch() -> None:
    classes = [index % 3 for index in range(BATCH_SIZE + 2)]
    assert predict(Corner(), images_of(*classes), bright_second_pixel()).tolist() == [3] * len(classes)


def test_pixels_get_the_models_dtype() -> None:
    stored = torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1, 1)
    pixels = pixels_for(nn.Linear(1, 1).double(), stored)
    assert pixels.dtype == torch.float64
    assert pixels.flatten().tolist() == pytest.approx([0, 0.2, 1])


def test_frozen_models_need_no_gradients_and_are_restored() -> None:
    model = partly_frozen()
    model[3].weight.requires_grad_(False)
    before, needed = modes(model), [parameter.requires_grad for parameter in model.parameters()]
    with frozen(model):
        assert not any(modes(model))
        assert not any(parameter.requires_grad for parameter in model.parameters())
    assert modes(model) == before
    with pytest.raises(KeyboardInterrupt), frozen(model):
        raise KeyboardInterrupt
    assert modes(model) == before
    assert (
        [parameter.requires_grad for parameter in model.parameters()] == needed == [True, True, False, True]
    )


def no_compiler(*_: object) -> None:
    raise NotImplementedError


def test_frozen_models_run_uncompiled() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    compiled = torch.compile(model, backend=no_compiler)
    images = torch.rand(3, 1, 2, 2)
    with frozen(compiled):
        assert torch.equal(compiled(images), model(images))


def test_settings_that_a_model_changes_are_restored() -> None:
    with frozen(partly_frozen()):
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32


class InPlace(nn.Sequential):
    """Normalises its input in place."""

    def forward(self, images: Tensor) -> Tensor:
        images.sub_(0.5)
        logits: Tensor = super().forward(images + 0.5)
        return logits


def test_a_model_that_works_in_place_changes_no_images(world: planted.World) -> None:
    """And predicts the same, whoever asks."""
    model = InPlace(*world.backdoored)
    images, labels = world.images[:40] / 255, world.labels[:40]
    kept, goal = images.clone(), AllToOne(planted.TARGET)
    assert accuracy(model, images, labels) == accuracy(world.backdoored, images, labels)
    rates = [
        attack_success_rate(each, planted.patch(), goal, images, labels) for each in (model, world.backdoored)
    ]
    assert rates[0] == rates[1]
    search = FewPixels(pixels=3, images_per_class=4)
    found = [few_pixel_triggers(each, images, labels, search=search) for each in (model, world.backdoored)]
    assert [each.rate for each in found[0]] == [each.rate for each in found[1]]
    assert torch.equal(images, kept)
