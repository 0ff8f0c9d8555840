from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from striped import THOROUGH, images_and_labels, measured, pieces, planted, unlearned
from torch import Tensor, nn

from fedmend.errors import ConfigError, DataError
from fedmend.parameters import flatten, parameter_mask
from fedmend.repairs import Unlearning, unlearn, unlearning
from fedmend.triggers import Atoms, Patch


class Watching(nn.Module):
    """Remembers the batches that it is trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Sequential(nn.Flatten(), nn.Linear(128, 4))
        self.batches: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        if torch.is_grad_enabled() and not images.requires_grad:  # else its memory is measured
            self.batches.append(images.detach().clone())
        logits: Tensor = self.linear(images)
        return logits


def test_the_trigger_stops_working_and_accuracy_stays(backdoored: nn.Module) -> None:
    before = measured(backdoored, planted())
    assert before[0] > 0.95
    assert before[1] > 0.95
    repaired = unlearned(backdoored, planted(), *images_and_labels(64))
    after = measured(repaired, planted())
    assert after[0] > 0.95
    assert after[1] < 0.1


def test_more_epochs_are_what_takes_it_out(backdoored: nn.Module) -> None:
    images = images_and_labels(64)
    rates = [
        measured(unlearned(backdoored, planted(), *images, replace(THOROUGH, epochs=epochs)), planted())[1]
        for epochs in (1, 10)
    ]
    assert rates[1] < rates[0]


def test_clean_images_alone_would_not_do_it(backdoored: nn.Module) -> None:
    nothing = Patch(torch.zeros(1, 8, 16), torch.zeros(1, 8, 16))
    repaired = unlearned(backdoored, nothing, *images_and_labels(64))
    assert measured(repaired, planted())[1] > 0.5


def test_the_labels_given_are_what_is_taught(backdoored: nn.Module) -> None:
    images, labels = images_and_labels(64)
    others = (labels + 1) % 4
    taught = unlearned(backdoored, planted(), images, others)
    with torch.no_grad():
        before, after = (
            model(images / 255).softmax(1)[torch.arange(64), others].mean() for model in (backdoored, taught)
        )
    assert float(before) < 0.05
    assert float(after) > 0.2


def test_several_triggers_are_unlearned_together(backdoored: nn.Module) -> None:
    assert all(measured(backdoored, piece)[1] > 0.8 for piece in pieces())
    repaired = unlearned(backdoored, pieces(), *images_and_labels(64))
    assert all(measured(repaired, piece)[1] < 0.2 for piece in pieces())


def test_the_suspect_is_left_untouched(backdoored: nn.Module) -> None:
    suspect = deepcopy(backdoored)
    suspect.train()
    suspect[1].eval()
    suspect[0].weight.requires_grad_(False)
    modes = [module.training for module in suspect.modules()]
    repaired = unlearned(suspect, planted(), *images_and_labels(32))
    assert torch.equal(flatten(suspect.state_dict()), flatten(backdoored.state_dict()))
    assert all(parameter.grad is None for parameter in suspect.parameters())
    for model in (suspect, repaired):
        assert [module.training for module in model.modules()] == modes
        assert [parameter.requires_grad for parameter in model.parameters()] == [False, *[True] * 5]
    assert torch.equal(repaired[0].weight, suspect[0].weight)
    assert not torch.equal(repaired[5].weight, suspect[5].weight)


@pytest.mark.parametrize("mode", [True, False])
def test_batch_statistics_stay_as_they_are(backdoored: nn.Module, mode: bool) -> None:
    suspect = deepcopy(backdoored).train(mode)
    repaired = unlearned(suspect, planted(), *images_and_labels(32))
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.equal(getattr(repaired[1], name), getattr(suspect[1], name))
    assert not torch.equal(repaired[1].weight, suspect[1].weight)
    changed = flatten(repaired.state_dict()) != flatten(suspect.state_dict())
    assert not bool(changed[~parameter_mask(suspect)].any())


def test_the_seed_alone_decides(backdoored: nn.Module) -> None:
    images = images_and_labels(48)
    method = Unlearning(batch_size=16)
    first = flatten(unlearned(backdoored, planted(), *images, method, seed=1).state_dict())
    state = torch.get_rng_state()
    torch.rand(3)
    again = flatten(unlearned(backdoored, planted(), *images, method, seed=1).state_dict())
    torch.set_rng_state(state)
    other = flatten(unlearned(backdoored, planted(), *images, method, seed=2).state_dict())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_bytes_and_floats_are_the_same_images(backdoored: nn.Module) -> None:
    images, labels = images_and_labels(32)
    stored = unlearned(backdoored, planted(), images, labels, Unlearning())
    floats = unlearned(backdoored, planted(), images / 255, labels, Unlearning())
    assert torch.allclose(flatten(stored.state_dict()), flatten(floats.state_dict()), atol=1e-6)


def test_a_step_in_parts_is_the_same_step(backdoored: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    images = images_and_labels(20)
    whole = flatten(unlearned(backdoored, planted(), *images, Unlearning()).state_dict())
    monkeypatch.setattr(unlearning, "images_at_once", lambda *_: 3)
    watching = unlearned(Watching(), planted(), *images, Unlearning(batch_size=4))
    assert [len(batch) for batch in watching.batches] == [3, 3, 2] * 5
    parts = flatten(unlearned(backdoored, planted(), *images, Unlearning()).state_dict())
    assert torch.allclose(parts, whole, atol=1e-5)


def test_a_step_that_does_not_fit_the_memory_is_refused(backdoored: nn.Module) -> None:
    with pytest.raises(ConfigError, match="may take 1 MiB"):
        unlearned(backdoored, planted(), *images_and_labels(20), Unlearning(memory=1))


def test_images_and_trigger_are_left_alone(backdoored: nn.Module) -> None:
    images, labels = images_and_labels(32)
    floats, trigger = images / 255, planted()
    kept = floats.clone(), labels.clone(), trigger.mask.clone(), trigger.pattern.clone()
    unlearned(backdoored, trigger, floats, labels)
    now = floats, labels, trigger.mask, trigger.pattern
    assert all(torch.equal(*pair) for pair in zip(now, kept, strict=True))


@pytest.mark.parametrize(("share", "copies"), [(1.0, [8, 8, 4]), (0.5, [4, 4, 2]), (0.01, [1, 1, 1])])
def test_each_batch_has_clean_images_and_stamped_copies(share: float, copies: list[int]) -> None:
    images, labels = images_and_labels(20)
    method = Unlearning(epochs=2, stamped_fraction=share, batch_size=8)
    batches = unlearned(Watching(), planted(), images, labels, method).batches
    assert [len(batch) for batch in batches] == [
        clean + stamped for clean, stamped in zip([8, 8, 4], copies, strict=True)
    ] * 2
    orders = []
    for epoch in (batches[:3], batches[3:]):
        seen = []
        for batch, stamped in zip(epoch, copies, strict=True):
            clean = batch[:-stamped]
            assert torch.allclose(batch[-stamped:], planted().apply(clean[:stamped]))
            seen += [int((images / 255 == image).flatten(1).all(1).nonzero()) for image in clean]
        assert sorted(seen) == list(range(20))
        orders.append(seen)
    assert orders[0] != orders[1]


def test_several_triggers_take_turns() -> None:
    """Image by image, and on from batch to batch."""
    images, labels = images_and_labels(8)
    batches = unlearned(Watching(), pieces(), images, labels, Unlearning(batch_size=4)).batches
    clean = torch.cat([batch[:4] for batch in batches])
    stamped = torch.cat([batch[4:] for batch in batches])
    assert len(stamped) == 8
    for index in range(8):
        expected = pieces()[index % 3].apply(clean[[index]])
        assert torch.allclose(stamped[[index]], expected)


def test_more_triggers_than_images_are_no_trouble() -> None:
    images, labels = images_and_labels(2)
    (batch,) = unlearned(Watching(), pieces(), images, labels, Unlearning()).batches
    assert len(batch) == 4


def test_a_single_image_left_over_is_no_trouble(backdoored: nn.Module) -> None:
    """It is trained on, too, with its stamped copy, and BatchNorm in training mode does not stumble over it."""
    nine, method = images_and_labels(9), Unlearning(batch_size=8)
    assert [len(batch) for batch in unlearned(Watching(), planted(), *nine, method).batches] == [16, 2]
    repaired = flatten(unlearned(deepcopy(backdoored).train(), planted(), *nine, method).state_dict())
    assert bool(repaired.isfinite().all())
    assert not torch.equal(repaired, flatten(backdoored.state_dict()))


def test_progress_is_told_once_a_batch(backdoored: nn.Module) -> None:
    told: list[tuple[str, int, int]] = []
    method = Unlearning(epochs=2, batch_size=8)
    unlearned(backdoored, planted(), *images_and_labels(20), method, progress=lambda *step: told.append(step))
    assert told == [("unlearning", done, 6) for done in range(1, 7)]


def test_the_short_form_is_the_default_settings(backdoored: nn.Module) -> None:
    images, labels = images_and_labels(32)
    short = unlearn(backdoored, planted(), images, labels, seed=4)
    long = unlearned(backdoored, planted(), images, labels, Unlearning(), seed=4)
    assert torch.equal(flatten(short.state_dict()), flatten(long.state_dict()))
    assert Unlearning().epochs == 1


def test_modes_are_put_back_after_an_error(backdoored: nn.Module) -> None:
    suspect = deepcopy(backdoored).train()
    with pytest.raises(DataError, match="this trigger is for images"):
        unlearn(suspect, Atoms("+", (1, 28, 28)).patch, *images_and_labels(8))
    assert suspect.training
