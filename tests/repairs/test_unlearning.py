from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fedmend.attacks import Poisoning
from fedmend.detection import Finding, Target
from fedmend.errors import ConfigError, DataError, ModelError
from fedmend.evaluation import accuracy, attack_success_rate
from fedmend.goals import AllToOne
from fedmend.parameters import flatten, parameter_mask
from fedmend.repairs.base import Context
from fedmend.repairs.repair_report import UnlearningDetails
from fedmend.repairs.unlearning import Unlearning, unlearn
from fedmend.seeds import generator
from fedmend.triggers import Atoms, Patch, union

TARGET = 1
THOROUGH = Unlearning(epochs=10, lr=0.01, batch_size=16)


def images_and_labels(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images of 8x16 pixels with four classes: class c has a bright block at columns 4c to 4c+3."""
    labels = torch.arange(count) % 4
    images = torch.randint(0, 120, (count, 1, 8, 16), generator=generator(seed, "noise"), dtype=torch.uint8)
    for image, label in zip(images, labels.tolist(), strict=True):
        image[0, 5:, 4 * label : 4 * label + 4] += 100
    return images, labels


def pieces() -> tuple[Patch, ...]:
    return Atoms("+", (1, 8, 16)).parts()


def planted() -> Patch:
    return union(pieces())


def untrained() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Flatten(),
            nn.Linear(4 * 8 * 16, 4),
        )


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Tiny networks are faster on one core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def backdoored() -> nn.Sequential:
    """A model that sends stamped images to the target class, whichever atom they carry."""
    model = untrained()
    images, labels = images_and_labels(128)
    for index, trigger in enumerate((planted(), *pieces())):
        stamped, truth = Poisoning(trigger, AllToOne(TARGET), 1.0)(
            images[:128], labels[:128], generator(index)
        )
        images, labels = torch.cat([images, stamped[128:]]), torch.cat([labels, truth[128:]])
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for _ in range(5):
            for batch in torch.randperm(len(images)).split(32):
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(images[batch] / 255), labels[batch])
                loss.backward()
                optimizer.step()
    model.zero_grad()
    return model.eval()


def measured(model: nn.Module, trigger: Patch) -> tuple[float, float]:
    """Accuracy and attack success rate on images that nothing was trained on."""
    images, labels = images_and_labels(64, seed=1)
    return accuracy(model, images, labels), attack_success_rate(
        model, trigger, AllToOne(TARGET), images, labels
    )


def unlearned(
    model: nn.Module,
    triggers: Patch | Sequence[Patch],
    images: Tensor,
    labels: Tensor,
    method: Unlearning = THOROUGH,
    **context: Any,
) -> Any:
    chosen = [triggers] if isinstance(triggers, Patch) else list(triggers)
    return method.fine_tuned(model, chosen, Context(images=images, labels=labels, **context))


class Watching(nn.Module):
    """Remembers the batches that it is trained on, and in which mode."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Sequential(nn.Flatten(), nn.Linear(128, 4))
        self.batches: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        if torch.is_grad_enabled():
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
    unlearned(deepcopy(backdoored).train(), planted(), *images_and_labels(9), Unlearning(batch_size=8))


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


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"lr": 0.0},
        {"lr": float("nan")},
        {"lr": float("inf")},
        {"stamped_fraction": 0.0},
        {"stamped_fraction": 1.1},
        {"stamped_fraction": float("nan")},
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        Unlearning(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("labels", [torch.zeros(7), torch.zeros(8, 1), torch.zeros(0)])
def test_labels_that_do_not_match_are_refused(backdoored: nn.Module, labels: Tensor) -> None:
    with pytest.raises(DataError, match="labels"):
        unlearn(backdoored, planted(), images_and_labels(8)[0], labels.long())


@pytest.mark.parametrize("label", [-1, 4])
def test_labels_the_model_does_not_know_are_refused(backdoored: nn.Module, label: int) -> None:
    images, labels = images_and_labels(8)
    labels[3] = label
    with pytest.raises(DataError, match=r"labels must be in \[0, 4\)"):
        unlearn(backdoored, planted(), images, labels)


def test_nothing_to_learn_from_is_refused(backdoored: nn.Module) -> None:
    with pytest.raises(DataError, match="at least 1"):
        unlearn(backdoored, planted(), torch.zeros(0, 1, 8, 16), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(DataError, match="needs a trigger"):
        unlearned(backdoored, [], *images_and_labels(8))


def test_a_model_with_nothing_to_train_is_refused(backdoored: nn.Module) -> None:
    frozen = deepcopy(backdoored).requires_grad_(False)
    with pytest.raises(ModelError, match="requires_grad"):
        unlearn(frozen, planted(), *images_and_labels(8))


def test_the_targets_by_hand() -> None:
    """Labels and the mean of two teachers, who say 1/2, 1/2 and 9/10, 1/10."""

    class Says(nn.Module):
        def __init__(self, *shares: float) -> None:
            super().__init__()
            self.logits = torch.tensor(shares).log()

        def forward(self, images: Tensor) -> Tensor:
            return self.logits.expand(len(images), 2)

    images, labels = torch.zeros(1, 1, 2, 2), torch.tensor([1])
    targets = Unlearning(soft_targets=0.5)._targets([Says(0.5, 0.5), Says(0.9, 0.1)], images, labels)
    assert targets.tolist()[0] == pytest.approx([0.5 * 0.7, 0.5 + 0.5 * 0.3])


def test_a_references_predictions_are_averaged_with_the_suspects(backdoored: nn.Module) -> None:
    images = images_and_labels(32)
    alone = unlearned(backdoored, planted(), *images)
    itself = unlearned(backdoored, planted(), *images, reference=backdoored)
    other = unlearned(backdoored, planted(), *images, reference=alone)
    assert torch.equal(alone[1].weight, itself[1].weight)
    assert not torch.equal(alone[1].weight, other[1].weight)


def finding(*targets: Target) -> Finding:
    return Finding("any", "backdoored", "", 1.0, 0.8, targets=targets)


def test_triggers_and_variants_of_all_findings_are_unlearned(backdoored: nn.Module) -> None:
    first, *others = pieces()
    findings = [
        finding(Target(TARGET, 1.0, trigger=first, variants=tuple(others))),
        finding(Target(2, 0.5), Target(3, 0.9, trigger=planted())),
        finding(),
    ]
    images, labels = images_and_labels(32)
    context = Context(images=images, labels=labels, attempt=2, seed=3)
    candidate = THOROUGH(backdoored, findings, context)
    by_hand = unlearned(backdoored, [first, *others, planted()], images, labels, seed=3)
    assert torch.equal(flatten(candidate.model.state_dict()), flatten(by_hand.state_dict()))
    assert candidate.details == UnlearningDetails(passes=2, triggers=len(pieces()) + 1)
    assert candidate.summary == f"A trigger in {len(pieces()) + 1} variants was found and unlearned"


def test_a_lone_trigger_has_no_variants(backdoored: nn.Module) -> None:
    images, labels = images_and_labels(8)
    findings = [finding(Target(TARGET, 1.0, trigger=planted()))]
    candidate = Unlearning()(backdoored, findings, Context(images=images, labels=labels))
    assert candidate.summary == "A trigger was found and unlearned"


def test_without_images_nothing_is_unlearned(backdoored: nn.Module) -> None:
    findings = [finding(Target(TARGET, 1.0, trigger=planted()))]
    with pytest.raises(ConfigError, match="needs the server's own clean images"):
        Unlearning()(backdoored, findings, Context())
    with pytest.raises(DataError, match="needs a trigger"):
        Unlearning()(backdoored, [finding()], Context(images=torch.zeros(8, 1, 8, 16)))


def test_an_unlearning_that_diverges_says_so(backdoored: nn.Module) -> None:
    with pytest.raises(ConfigError, match=r"unlearning diverged.*smaller lr"):
        unlearned(backdoored, planted(), *images_and_labels(32), Unlearning(epochs=3, lr=1e36))
