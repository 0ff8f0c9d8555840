"""A repair by votes among clients that break down, hang, lie about themselves or attack the server's objects."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from voting import TEST, TRAIN, attacked_run, details, state

from fedmend.detection import Case
from fedmend.federation import RunFolder, load_federation
from fedmend.repairs import (
    VOTING_GATE,
    FederatedPruning,
    Participants,
    RepairReport,
    ValidationSet,
    repair_by_votes,
)
from fedmend.repairs.simulated_run import participants_of, round_model

ANYTHING = replace(VOTING_GATE, max_accuracy_drop=1.0, max_trigger_success=1.0)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return attacked_run(tmp_path_factory.mktemp("run") / "out")


class Hostile:
    """A client whose every reply is what ``does`` makes of the model and the honest client's reply."""

    def __init__(self, honest: Any, does: Any) -> None:
        self.honest, self.does = honest, does

    @property
    def client_id(self) -> int:
        raise SystemExit(0)

    def activations(self, model: nn.Module, layer: str) -> Any:
        return self.does(model, lambda: self.honest.activations(model, layer))

    def triggers(self, model: nn.Module, seed: int) -> Any:
        return self.does(model, lambda: self.honest.triggers(model, seed))

    def accuracies(self, model: nn.Module, *question: Any) -> Any:
        return self.does(model, lambda: self.honest.accuracies(model, *question))

    def fit(self, model: nn.Module, task: Any, seed: int) -> Any:
        return self.does(model, lambda: self.honest.fit(model, task, seed))


class Stopping:
    """Ends the process that looks at it."""

    def __getattribute__(self, name: str) -> Any:
        raise SystemExit(0)

    def __len__(self) -> int:
        raise SystemExit(0)

    def __iter__(self) -> Any:
        raise KeyboardInterrupt


class Override(Tensor):
    @classmethod
    def __torch_function__(cls, *_: Any, **__: Any) -> Any:
        raise SystemExit(0)


def stops(model: nn.Module, honest: Any) -> Any:
    raise SystemExit(0)


def interrupts(model: nn.Module, honest: Any) -> Any:
    raise KeyboardInterrupt


def sends_an_object(model: nn.Module, honest: Any) -> Any:
    return Stopping()


def sends_a_subclass(model: nn.Module, honest: Any) -> Any:
    return torch.zeros(4).as_subclass(Override)


def hangs(model: nn.Module, honest: Any) -> Any:
    while True:
        time.sleep(0.01)


def vandalises(model: nn.Module, honest: Any) -> Any:
    model.register_forward_hook(lambda *_: torch.zeros(1))
    for parameter in model.parameters():
        parameter.data.zero_()
    raise ValueError


def repaired(
    run: RunFolder, does: Any, method: FederatedPruning, *, validated: bool = True
) -> tuple[RepairReport, dict[str, nn.Module], nn.Module]:
    """With the last of the four clients hostile; also the suspect, afterwards."""
    federation = load_federation(run, TRAIN)
    honest = federation.clients[3]
    hostile: Any = Hostile(honest, does)
    participants: Participants = participants_of(run, federation)
    participants = replace(
        participants,
        clients=[*federation.clients[:3], hostile],
        choose=lambda number: [
            hostile if each.client_id == 3 else each for each in federation.choose(number)
        ],
    )
    case = Case(round_model(run, TRAIN))
    if validated:
        participants = replace(participants, validation=ValidationSet(TEST.images, TEST.labels))
        case = replace(case, images=TEST.images, labels=TEST.labels)
    _, report, stages = repair_by_votes(case, participants, method, ANYTHING)
    return report, stages, case.suspect


QUICK = FederatedPruning(fine_tuning_rounds=0, timeout=30.0)


@pytest.mark.parametrize("does", [stops, interrupts, sends_an_object, sends_a_subclass, vandalises])
@pytest.mark.parametrize("validated", [True, False])
def test_a_hostile_client_has_no_vote_and_no_hold_of_the_model(
    run: RunFolder, does: Any, validated: bool
) -> None:
    report, stages, suspect = repaired(run, does, QUICK, validated=validated)
    told = details(report)
    assert (told.ballots, sum(told.refused.values())) == (3, 1)
    assert torch.equal(state(suspect), state(round_model(run, TRAIN)))
    for each in (suspect, *stages.values()):
        assert not any(module._forward_hooks for module in each.modules())
    if not validated:
        assert any("of 4 reports of accuracies, refused: 1" in warning for warning in report.warnings)


@pytest.mark.parametrize("distils", [True, False])
def test_a_hostile_client_is_left_out_of_fine_tuning_and_told(run: RunFolder, distils: bool) -> None:
    method = replace(QUICK, fine_tuning_rounds=2)
    method = method if distils else replace(method, distillation=None)
    report, stages, _ = repaired(run, stops, method)
    federation = load_federation(run, TRAIN)
    asked = sum(each.client_id == 3 for number in (4, 5) for each in federation.choose(number))
    told = [warning for warning in report.warnings if "the update of" in warning]
    assert len(told) == asked > 0
    assert "the client failed: SystemExit: 0" in told[0]
    assert bool(state(stages["fine-tuned"]).isfinite().all())


def test_a_client_that_hangs_delays_the_vote_only_by_the_timeout(run: RunFolder) -> None:
    before = threading.active_count()
    started = time.monotonic()
    report, _, _ = repaired(run, hangs, replace(QUICK, timeout=2.0))
    assert time.monotonic() - started < 60
    assert details(report).refused == {"no reply in time": 1}
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_the_server_numbers_the_clients_whatever_they_say(run: RunFolder) -> None:
    """This one's number can't be read; its honest replies count."""
    report, _, _ = repaired(run, lambda model, reply: reply(), QUICK)
    assert (details(report).ballots, details(report).refused) == (4, {})
