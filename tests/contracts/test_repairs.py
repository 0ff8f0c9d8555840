"""What every repair on the server's own images must do. A new one is a row in ROWS."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

import planted
from fedmend.detection import Case, Finding, Target, scan
from fedmend.errors import ConfigError, DataError, ModelError
from fedmend.evaluation import accuracy, attack_success_rate
from fedmend.goals import AllToOne
from fedmend.local_training import LocalTraining
from fedmend.parameters import flatten
from fedmend.repairs import (
    REPAIRS,
    AdversarialNeuronPruning,
    AdversarialUnlearning,
    BenignFeatureUnlearning,
    Candidate,
    Context,
    ContrastivePaperUnlearning,
    DeepSweep,
    FederatedPruning,
    FinePruning,
    HoldOutGate,
    NeuralCleansePruning,
    NeuralCleanseUnlearning,
    Repair,
    RepairReport,
    SharpnessAwareTuning,
    Unlearning,
    repair,
)


@dataclass(frozen=True)
class Row:
    """A repair and what it can do.

    Attributes:
        make: as it is run here; ``brief``: the same in little time.
        triggers: what it uses of the findings.
        refused: settings that are out of range.
        trains: it changes the weights by training, so it refuses a model whose parameters are all frozen.
        unable: why the planted trigger's ASR, above 95 % before, stays above a tenth in a net as small as this one.
    """

    make: Callable[..., Repair]
    brief: Callable[..., Repair]
    triggers: Literal["all", "one", "none"]
    refused: tuple[dict[str, Any], ...]
    trains: bool = True
    unable: str = ""


BRIEF = LocalTraining(epochs=1, batch_size=16)
THOROUGH = LocalTraining(epochs=10, batch_size=8, lr=0.003)
ROWS = {
    "unlearn": Row(partial(Unlearning, epochs=10), Unlearning, "all", ({"epochs": 0}, {"lr": 0.0})),
    "contrastive-paper-unlearning": Row(
        partial(ContrastivePaperUnlearning, training=THOROUGH),
        ContrastivePaperUnlearning,
        "one",
        ({"stamped_fraction": 0.0}, {"training": 3}),
    ),
    "neural-cleanse-unlearning": Row(
        partial(NeuralCleanseUnlearning, training=THOROUGH),
        NeuralCleanseUnlearning,
        "one",
        ({"stamped_fraction": 1.5}, {"epochs": 1}),
    ),
    "neural-cleanse-pruning": Row(*[NeuralCleansePruning] * 2, "one", ({"max_success": -0.1},), trains=False),
    "fine-pruning": Row(
        partial(FinePruning, training=LocalTraining(epochs=20, batch_size=32, lr=0.01)),
        partial(FinePruning, training=BRIEF),
        "none",
        ({"max_drop": 2.0},),
    ),
    "anp": Row(
        partial(AdversarialNeuronPruning, steps=50),
        partial(AdversarialNeuronPruning, steps=5, threshold=0.99),
        "none",
        ({"epsilon": 0.0}, {"threshold": 1.1}, {"momentum": 1.0}),
        trains=False,
        unable="none of the net's 24 channels serves the backdoor alone; tests/repairs/test_anp.py has a net with one",
    ),
    "i-bau": Row(
        AdversarialUnlearning,
        partial(AdversarialUnlearning, rounds=1, ascent_steps=2),
        "none",
        ({"rounds": 0}, {"strength": -1.0}, {"iterations": -1}),
        unable="other changes raise the loss more than the patch; test_i_bau.py has a net where none does",
    ),
    "bti-dbf": Row(
        partial(BenignFeatureUnlearning, rounds=10),
        partial(BenignFeatureUnlearning, rounds=1, mask_epochs=1, generator_epochs=1),
        "none",
        ({"rounds": 0}, {"strength": 0.0}, {"mask_lr": -1.0}),
    ),
    "ft-sam": Row(
        partial(SharpnessAwareTuning, rho=0.5),
        partial(SharpnessAwareTuning, epochs=1),
        "none",
        ({"rho": 0.0}, {"epochs": 0}),
    ),
    "deep-sweep": Row(
        DeepSweep,
        partial(DeepSweep, epochs=1, training=BRIEF),
        "none",
        ({"epochs": 0}, {"shrink": 0.0}, {"policy": 3}),
    ),
}
every_row = pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
PLANTED = Target(planted.TARGET, 1.0, trigger=planted.patch())
FOUND = Finding("made up", "backdoored", "Because.", 1.0, 0.5, targets=(PLANTED,))


def repaired(
    world: planted.World, method: Repair, suspect: nn.Module | None = None, **changes: Any
) -> Candidate:
    """Repair a copy of the suspect on half of the images; ``findings`` and the context's fields can be changed."""
    findings: Sequence[Finding] = changes.pop("findings", (FOUND,))
    context = Context(world.reference, world.images[:150], world.labels[:150], seed=0)
    return method(deepcopy(suspect or world.backdoored), findings, replace(context, **changes))


def measured(world: planted.World, model: nn.Module) -> tuple[float, float]:
    """Accuracy and attack success rate on the other half."""
    unseen = world.images[150:], world.labels[150:]
    return accuracy(model, *unseen), attack_success_rate(
        model, planted.patch(), AllToOne(planted.TARGET), *unseen
    )


@every_row
def test_it_removes_a_planted_patch_and_keeps_the_accuracy(world: planted.World, row: Row) -> None:
    before = measured(world, world.backdoored)
    assert min(before) > 0.95
    candidate = repaired(world, row.make(), findings=() if row.triggers == "none" else (FOUND,))
    after = measured(world, candidate.model)
    assert after[0] > before[0] - 0.05
    assert (after[1] < 0.1) == (not row.unable)
    assert candidate.summary
    assert not candidate.summary.endswith(".")


@every_row
def test_a_clean_model_stays_accurate(world: planted.World, row: Row) -> None:
    candidate = repaired(world, row.make(), world.clean)
    assert measured(world, candidate.model)[0] > measured(world, world.clean)[0] - 0.05


@every_row
def test_the_seed_alone_decides(world: planted.World, row: Row) -> None:
    def once(seed: int) -> Tensor:
        return flatten(repaired(world, row.brief(), seed=seed).model.state_dict())

    first = once(1)
    torch.rand(3)
    state = torch.get_rng_state()
    assert torch.equal(once(1), first)
    assert torch.equal(torch.get_rng_state(), state)
    if row.trains:
        assert not torch.equal(once(2), first)


@every_row
def test_everything_is_left_as_it_came(world: planted.World, row: Row) -> None:
    suspect = deepcopy(world.backdoored).train()
    suspect[1].eval()
    suspect[0].weight.requires_grad_(False)
    kept, modes = deepcopy(suspect), [module.training for module in suspect.modules()]
    images, labels = world.images[:150] / 255, world.labels[:150].clone()
    context = Context(deepcopy(world.reference), images.clone(), labels.clone(), seed=0)
    model = row.brief()(suspect, (FOUND,), context).model
    assert model is not suspect
    assert torch.equal(flatten(suspect.state_dict()), flatten(kept.state_dict()))
    assert context.images is not None
    assert context.labels is not None
    assert context.reference is not None
    assert torch.equal(context.images, images)
    assert torch.equal(context.labels, labels)
    assert torch.equal(flatten(context.reference.state_dict()), flatten(world.reference.state_dict()))
    for each in (suspect, model):
        assert [module.training for module in each.modules()] == modes
        assert [parameter.requires_grad for parameter in each.parameters()] == [False, *[True] * 5]
        assert all(parameter.grad is None for parameter in each.parameters())
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in each.modules())
    if (
        row.trains and row.triggers != "all"
    ):  # unlearning starts nearer to the reference, frozen weights included
        assert torch.equal(model[0].weight, suspect[0].weight)  # type: ignore[index]
    assert not torch.equal(flatten(model.state_dict()), flatten(suspect.state_dict()))


@every_row
def test_models_of_double_precision(world: planted.World, row: Row) -> None:
    model = repaired(
        world, row.brief(), deepcopy(world.backdoored).double(), reference=deepcopy(world.reference).double()
    ).model
    assert {value.dtype for value in model.parameters()} == {torch.float64}


@every_row
def test_what_it_needs(world: planted.World, row: Row) -> None:
    with pytest.raises(ConfigError, match="needs the server's own clean images with labels"):
        repaired(world, row.brief(), images=None)
    with pytest.raises(ConfigError, match="needs the server's own clean images with labels"):
        repaired(world, row.brief(), labels=None)
    repaired(world, row.brief(), reference=None)
    if row.triggers == "none":
        repaired(world, row.brief(), findings=())
        return
    bare = replace(FOUND, targets=(Target(planted.TARGET, 1.0),))
    for findings in ((), (bare,)):
        with pytest.raises(DataError, match="needs a trigger"):
            repaired(world, row.brief(), findings=findings)


@every_row
def test_bad_input_is_refused(world: planted.World, row: Row) -> None:
    with pytest.raises(DataError, match=r"labels \(N,\), N at least 1"):
        repaired(world, row.brief(), images=world.images[:0], labels=world.labels[:0])
    with pytest.raises(DataError, match=r"got \(20, 1, 12, 12\) and \(19,\)"):
        repaired(world, row.brief(), images=world.images[:20], labels=world.labels[:19])
    for wrong in (4, -1):
        labels = world.labels[:150].clone()
        labels[0] = wrong
        with pytest.raises(DataError, match=rf"labels must be in \[0, 4\), the model's classes; got {wrong}"):
            repaired(world, row.brief(), labels=labels)
    for settings in row.refused:
        with pytest.raises(ConfigError, match=next(iter(settings))):
            row.make(**settings)
    if row.trains:
        frozen = deepcopy(world.backdoored).requires_grad_(False)
        with pytest.raises(ModelError, match="every parameter of the model is frozen"):
            repaired(world, row.brief(), frozen)


@every_row
def test_progress_ends(world: planted.World, row: Row) -> None:
    told: list[tuple[str, int, int]] = []
    repaired(world, row.brief(), progress=lambda *step: told.append(step))
    assert told[-1][1] == told[-1][2]


class Says:
    """A detector with this verdict, which needs nothing."""

    needs = frozenset[Any]()

    def __init__(self, verdict: Any, *targets: Target) -> None:
        self.finding = replace(FOUND, verdict=verdict, targets=targets)

    def __call__(self, *_: Any) -> Finding:
        return self.finding


def gated(
    world: planted.World, row: Row, says: Says, reference: nn.Module | None = None
) -> tuple[nn.Module | None, RepairReport]:
    """A repair of which scans find no fault, after one that says this."""
    case = Case(world.backdoored, reference, world.images[:200], world.labels[:200])
    gate = HoldOutGate(detector=Says("clean"), max_accuracy_drop=1.0, max_trigger_success=1.0)
    return repair(case, scan(case, says), row.brief(), gate, seed=0)


@every_row
def test_its_report_survives_json(world: planted.World, row: Row) -> None:
    _, report = gated(world, row, Says("backdoored", *FOUND.targets))
    again = RepairReport.from_json(report.to_json())
    assert again == report
    assert type(again.details) is type(report.details)
    assert report.details is not None
    assert set(report.settings) > {"gate", "seed"}


@every_row
def test_without_a_trigger_only_those_that_need_none_repair(world: planted.World, row: Row) -> None:
    for says in (Says("inconclusive"), Says("backdoored")):
        model, report = gated(world, row, says)
        assert (model is not None) == (row.triggers == "none")
        assert report.outcome == ("repaired" if row.triggers == "none" else "undecided")
    assert gated(world, row, Says("clean"))[1].outcome == "not needed"


def test_every_named_repair_for_the_servers_images_has_a_row() -> None:
    by_votes = {name for name, method in REPAIRS.items() if isinstance(method, FederatedPruning)}
    assert set(REPAIRS) - by_votes == set(ROWS)
