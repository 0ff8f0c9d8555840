from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from tiny_data import image_set
from tiny_nets import conv, linear
from torch import Tensor, nn

from fedmend.errors import ModelError
from fedmend.federation import Client
from fedmend.local_training import LocalTraining
from fedmend.parameters import flatten
from fedmend.repairs.distillation import Distillation, DistillationTask
from fedmend.seeds import derive_seed

TRAINING = LocalTraining(epochs=1, batch_size=8, optimizer="sgd", lr=0.05)
SHAPE, TARGET, CORNER = (1, 8, 16), 1, (0, 0)


def net(make: Callable[..., nn.Module] = linear, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make(4, 1, SHAPE[1:])


def images(count: int = 64) -> Tensor:
    """Images with a black pixel in the corner, where the trigger goes."""
    made = image_set(count).images
    made[:, :, CORNER[0], CORNER[1]] = 0
    return made


def planted() -> nn.Module:
    """It sees which block is bright; a white pixel in the corner turns every image into the target."""
    model = net()
    weight = model[1].weight.data.view(4, 8, 16)  # type: ignore[index, union-attr, operator]
    weight[:] = 0
    for label in range(4):
        weight[label, 5:, 4 * label : 4 * label + 4] = 0.7
    weight[TARGET][CORNER] = 9.0
    model[1].bias.data[:] = 0  # type: ignore[index, union-attr]
    return model


def task(
    teacher: nn.Module,
    *places: list[tuple[int, int]],
    settings: Distillation | None = None,
    lr: float = 0.1,
    training: LocalTraining = TRAINING,
) -> DistillationTask:
    """Against one white trigger for each list of places."""
    masks = torch.zeros(len(places), 1, *SHAPE[1:])
    for mask, pixels in zip(masks, places, strict=True):
        for row, column in pixels:
            mask[0, row, column] = 1
    weights = torch.ones(len(places))
    return DistillationTask(training, settings or Distillation(), lr, teacher, 1 - masks, masks, weights)


def distil(model: nn.Module, pixels: Tensor, made: DistillationTask, seed: int = 0) -> None:
    made(model, pixels, torch.zeros(len(pixels), dtype=torch.int64), seed)


def classes(model: nn.Module, pixels: Tensor) -> Tensor:
    with torch.no_grad():
        return deepcopy(model).eval()(pixels / 255).argmax(1)


def stamped() -> Tensor:
    made = images()
    made[:, :, CORNER[0], CORNER[1]] = 255
    return made


class Seeing(nn.Module):
    """Remembers what it was trained on, which is in eval mode: dropout is off."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = net()
        self.clean: list[Tensor] = []
        self.disturbed: list[Tensor] = []

    def forward(self, pixels: Tensor) -> Tensor:
        assert not self.training
        clean, disturbed = pixels.detach().clone().chunk(2)
        self.clean.append(clean)
        self.disturbed.append(disturbed)
        logits: Tensor = self.linear(pixels)
        return logits


def test_a_trigger_is_unlearned_and_clean_predictions_are_kept() -> None:
    teacher = planted()
    model, wanted = deepcopy(teacher), classes(teacher, images())
    assert torch.equal(wanted, image_set(64).labels)
    assert bool((classes(model, stamped()) == TARGET).all())
    distil(model, images(), task(teacher, [CORNER], training=replace(TRAINING, epochs=20)))
    assert torch.equal(classes(model, images()), wanted)
    assert torch.equal(classes(model, stamped()), wanted)


def test_what_is_taught_is_the_teachers_prediction_and_not_the_right_one() -> None:
    """The teacher takes class 0 for class 2 and the other way round; so does, stamped or not, who learns from it."""
    teacher = planted()
    for parameter in teacher.parameters():
        parameter.data[[0, 2]] = parameter.data[[2, 0]].clone()
    model = deepcopy(teacher)
    distil(model, images(), task(teacher, [CORNER], training=replace(TRAINING, epochs=20)))
    swapped = torch.tensor([2, 1, 0, 3])[image_set(64).labels]
    assert torch.equal(classes(model, images()), swapped)
    assert torch.equal(classes(model, stamped()), swapped)


def test_without_triggers_copies_carry_noise() -> None:
    teacher, student = planted(), Seeing()
    student.linear = deepcopy(teacher)
    noise = task(teacher, settings=Distillation(pixel_noise=0.5))
    assert noise.kept.shape == (0, 1, 8, 16)
    distil(student, images(), noise)
    changed = (torch.cat(student.clean) != torch.cat(student.disturbed)).double().mean((1, 2, 3))
    assert 0.15 < float(changed.mean()) < 0.35  # from 0 to one half of the pixels
    assert float(changed.max()) < 0.65
    assert torch.equal(classes(student.linear, images()), classes(teacher, images()))
    assert not torch.equal(flatten(student.linear.state_dict()), flatten(teacher.state_dict()))


def test_undisturbed_there_is_nothing_to_learn() -> None:
    teacher = net()
    model = deepcopy(teacher)
    distil(model, images(), task(teacher, settings=Distillation(pixel_noise=0)))
    assert torch.allclose(flatten(model.state_dict()), flatten(teacher.state_dict()), atol=1e-5)


@pytest.mark.parametrize("largest", [1e9, 0.01], ids=["as it is", "clipped"])
def test_a_step_by_hand(largest: float) -> None:
    """With a temperature of 2 the gradient of 2 CE is the difference of the answers, at half the logits."""
    teacher, model = net(seed=1), net(seed=2)
    settings = Distillation(disturbed_weight=3.0, max_gradient=largest, pixel_noise=0)
    pixels = (images(8).double() / 255).flatten(1)

    def answers(of: nn.Module) -> Tensor:
        weight, bias = (parameter.detach().double() for parameter in of.parameters())
        return ((pixels @ weight.T + bias) / 2).softmax(1)

    error = (1 + 3) * (answers(model) - answers(teacher)) / 8
    gradient = torch.cat([(error.T @ pixels).flatten(), error.sum(0)])
    norm = float(gradient.norm())
    assert norm > 0.01
    expected = flatten(model.state_dict()).double() - 0.2 * gradient * min(1.0, largest / norm)
    distil(model, images(8), task(teacher, settings=settings, lr=0.2))
    assert torch.allclose(flatten(model.state_dict()).double(), expected, atol=1e-5)


def test_copies_carry_a_part_of_one_trigger() -> None:
    places = [[(0, 0), (0, 1), (2, 3)], [(4, 4), (7, 15)]]
    student = Seeing()
    everywhere = task(net(), *places, settings=Distillation(stamped_fraction=1.0))
    distil(student, images(), replace(everywhere, training=replace(TRAINING, epochs=4)))
    parts = set()
    for clean, copy in zip(torch.cat(student.clean), torch.cat(student.disturbed), strict=True):
        changed = [tuple(place) for place in (copy != clean)[0].nonzero().tolist()]
        assert all(copy[0][place] == 1 for place in changed)
        assert any(set(changed) <= set(trigger) for trigger in places)
        parts.add(tuple(changed))
    assert parts >= {(), *(tuple(trigger) for trigger in places)}  # none of it, and all of it
    assert parts & {((0, 0),), ((0, 1),), ((2, 3),)}


def test_a_trigger_is_taken_as_often_as_its_weight_says() -> None:
    student = Seeing()
    weighted = replace(
        task(net(), [(0, 0)], [(7, 15)], [(3, 3)], settings=Distillation(stamped_fraction=1.0)),
        weights=torch.tensor([3.0, 1.0, 0.0]),
    )
    distil(student, images(), replace(weighted, training=replace(TRAINING, epochs=10)))
    changed = torch.cat(student.clean) != torch.cat(student.disturbed)
    first, second, never = (
        int(changed[:, 0, row, column].sum()) for row, column in ((0, 0), (7, 15), (3, 3))
    )
    assert never == 0
    assert 2 < first / second < 4.5
    assert 0.55 < (first + second) / 640 < 0.78  # the root of a share that is drawn evenly is 2/3 in the mean


def test_the_share_of_stamped_copies_is_kept() -> None:
    student = Seeing()
    some = task(net(), [CORNER], settings=Distillation(stamped_fraction=0.0))
    distil(student, images(), some)
    changed = torch.cat(student.clean) != torch.cat(student.disturbed)
    assert int(changed[:, 0, 1:].sum()) > 0
    assert int(changed[:, 0, 0, 0].sum()) < 16


def test_epochs_and_batches_are_the_clients_own() -> None:
    student = Seeing()
    training = LocalTraining(2, 8, "sgd", 0.1, images_per_epoch=10)
    distil(student, images(20), task(net(), [CORNER], training=training))
    assert [len(batch) for batch in student.clean] == [8, 2] * 2
    own = (images(20) / 255).flatten(1)
    epochs = []
    for epoch in (student.clean[:2], student.clean[2:]):
        epochs.append([int((own == image).all(1).nonzero()) for image in torch.cat(epoch).flatten(1)])
        assert len(set(epochs[-1])) == 10
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("mode", [True, False])
def test_the_teacher_is_left_as_found(mode: bool) -> None:
    """And answers in eval mode, whatever mode it is in."""
    teacher = net(conv).train(mode)
    teacher[1].train(not mode)  # type: ignore[index, operator]
    modes, before = [part.training for part in teacher.modules()], deepcopy(teacher.state_dict())
    model, other = net(conv, seed=1), net(conv, seed=1)
    distil(model, images(16), task(teacher, [CORNER]), 3)
    assert [part.training for part in teacher.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert all(parameter.grad is None for parameter in teacher.parameters())
    distil(other, images(16), task(deepcopy(teacher).eval(), [CORNER]), 3)
    assert torch.equal(flatten(model.state_dict()), flatten(other.state_dict()))


def test_the_seed_alone_decides_and_the_global_generator_is_left_alone() -> None:
    def taught(seed: int) -> Tensor:
        model = net(conv)
        distil(model, images(16), task(net(conv, seed=1), [CORNER]), seed)
        return flatten(model.state_dict())

    torch.manual_seed(1)
    first = taught(3)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert torch.equal(taught(3), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(taught(4), first)


def test_a_faint_pattern_is_added_in_part_and_clamped() -> None:
    teacher, student = planted(), Seeing()
    student.linear = deepcopy(teacher)
    made = task(teacher, [CORNER], settings=Distillation(stamped_fraction=1.0))
    delta = torch.linspace(-0.5, 0.25, 128).view(SHAPE)
    made = replace(made, kept=torch.ones(1, 1, *SHAPE[1:]), added=delta[None])
    distil(student, images(), made)
    clean, disturbed = torch.cat(student.clean), torch.cat(student.disturbed)
    whole = (clean + delta).clamp(0, 1)
    assert bool(((disturbed == whole) | (disturbed == clean)).all())
    assert 0.4 < float((disturbed == whole)[whole != clean].double().mean()) < 0.9


def test_images_and_triggers_are_left_as_found() -> None:
    pixels, taught = images(16), task(net(), [CORNER])
    before = pixels.clone(), taught.kept.clone(), taught.added.clone()
    distil(net(seed=1), pixels, taught)
    for now, then in zip((pixels, taught.kept, taught.added), before, strict=True):
        assert torch.equal(now, then)


@pytest.mark.parametrize("mode", [True, False])
def test_batch_statistics_and_modes_stay(mode: bool) -> None:
    model = net(conv).train(mode)
    before = deepcopy(model.state_dict())
    distil(model, images(16), task(net(conv, seed=1), [CORNER]))
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.equal(model.state_dict()[f"1.{name}"], before[f"1.{name}"]), name
    assert not torch.equal(model.state_dict()["1.weight"], before["1.weight"])
    assert all(part.training == mode for part in model.modules())


def test_what_needs_no_gradient_is_not_trained() -> None:
    model = net(conv)
    model[0].requires_grad_(False)  # type: ignore[index, operator]
    before = deepcopy(model.state_dict())
    distil(model, images(16), task(net(conv, seed=1), [CORNER]))
    assert torch.equal(model.state_dict()["0.weight"], before["0.weight"])
    assert not torch.equal(model.state_dict()["5.weight"], before["5.weight"])


def test_a_rate_that_is_too_high_is_told() -> None:
    with pytest.raises(ModelError, match=r"fine-tuning diverged.*smaller lr"):
        distil(net(), images(), task(net(seed=1), [CORNER], lr=3e38, training=replace(TRAINING, epochs=3)))


# A client with this task


def test_an_honest_client_does_the_task_without_its_labels() -> None:
    by_hand, made = net(conv), task(net(conv, seed=1), [CORNER])
    before = flatten(by_hand.state_dict())
    distil(by_hand, images(24), made, derive_seed(11, "train"))
    expected = flatten(by_hand.state_dict()) - before
    assert float(expected.abs().max()) > 0
    for labels in (image_set(24).labels, torch.full((24,), 3)):
        update = Client(3, images(24), labels).fit(net(conv), made, seed=11)
        assert (update.client_id, update.num_examples) == (3, 24)
        assert torch.equal(update.delta, expected)
    assert not torch.equal(Client(3, images(24), labels).fit(net(conv), TRAINING, seed=11).delta, expected)
