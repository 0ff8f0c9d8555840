import json
import math
from dataclasses import replace

import pytest

from fedmend.errors import DataError
from fedmend.repairs.repair_report import (
    Details,
    FineTuningDetails,
    Move,
    NeuronDetails,
    PruningDetails,
    RepairReport,
    Stage,
    TargetCheck,
    UnlearningDetails,
    VotedTrigger,
)


def trigger(client: int, source: int, rate: float) -> VotedTrigger:
    return VotedTrigger(client, source, 1, rate, ((0, client), (2, 3)))


PRUNED = PruningDetails(
    layer="conv2",
    channels=4,
    vote="ranking",
    ballots=9,
    refused={"ranks out of range": 1},
    missing=0,
    sequence=(3, 1, 0, 2),
    points=(0, 1, 2, 3),
    accuracies=(0.9, 0.9, 0.89, 0.5),
    pruned=(3, 1),
    stages=(Stage("suspect", 0.9, 0), Stage("adjusted again", 0.88, 4, 3.0)),
    extreme=((2, 0, 1, 1),),
    values=(9.0,),
    triggers=(trigger(2, 5, 0.9), trigger(4, 5, 0.7), trigger(4, 0, 0.9), trigger(4, 0, 0.6)),
    versions={"torch": "2"},
)


def report(details: Details | None) -> RepairReport:
    return RepairReport(
        outcome="repaired",
        reason="It was.",
        method="Unlearning",
        settings={"epochs": 5, "gate": {"max_passes": 3}},
        seconds=1.5,
        accuracy_before=0.9,
        accuracy_after=0.89,
        accuracy_error=0.01,
        num_judged=100,
        num_heldout=100,
        max_accuracy_drop=0.01,
        verdict_after="clean",
        target_checks=(TargetCheck(1, (5,), 0.9, 0.1),),
        details=details,
        warnings=("Mind the gap.",),
    )


@pytest.mark.parametrize(
    "details",
    [
        None,
        UnlearningDetails(2, 36),
        FineTuningDetails(40, 500),
        NeuronDetails({"conv1": (0, 3), "conv2": (7,)}, 48),
        NeuronDetails({}, 48),
        PRUNED,
    ],
    ids=["none", "unlearned", "fine-tuned", "neurons", "no neurons", "pruned"],
)
def test_a_report_survives_json(details: Details | None) -> None:
    again = RepairReport.from_json(report(details).to_json())
    assert again == report(details)
    assert type(again.details) is type(details)


def test_figures_that_are_not_finite_survive_json() -> None:
    details = replace(
        PRUNED, accuracies=(math.nan, math.inf), stages=(Stage("pruned", math.nan, 0, math.inf),)
    )
    wrong = replace(
        report(details),
        settings={"a": math.inf, "b": {"c": -math.inf}, "d": math.nan},
        accuracy_after=math.nan,
        accuracy_error=math.inf,
        target_checks=(TargetCheck(1, (), math.nan, 0.1, 2),),
    )
    again = RepairReport.from_json(wrong.to_json())
    assert again.to_json() == wrong.to_json()
    assert repr(again) == repr(wrong)


def test_what_is_no_report_is_refused() -> None:
    table = json.loads(report(PRUNED).to_json())
    for damaged in (
        {},
        table | {"outcome": "pruned"},
        table | {"extra": 1},
        table | {"details": {"passes": 1}},
    ):
        with pytest.raises(DataError, match="not a fedmend repair report"):
            RepairReport.from_json(json.dumps(damaged))


def test_triggers_of_the_same_classes_are_one_move() -> None:
    """Of equal rates, more clients come first."""
    assert PRUNED.moves == (Move(trigger(2, 5, 0.9), 2), Move(trigger(4, 0, 0.9), 1))


@pytest.mark.parametrize(
    ("rate", "pixels", "telling"),
    [(0.79, 1, False), (0.8, 1, True), (0.8, 8, True), (1.0, 9, False), (1.0, 0, False)],
)
def test_a_few_pixels_that_move_four_fifths_are_telling(rate: float, pixels: int, telling: bool) -> None:
    found = replace(trigger(0, 0, rate), pixels=tuple((0, column) for column in range(pixels)))
    assert found.telling == telling


def test_a_telling_trigger_comes_before_a_larger_one_that_works_better() -> None:
    few = replace(trigger(0, 1, 0.9), pixels=((0, 0),))
    large = replace(trigger(0, 1, 1.0), pixels=tuple((1, column) for column in range(20)))
    other = replace(large, source_class=2)
    moves = replace(PRUNED, triggers=(other, large, few)).moves
    assert moves == (Move(few, 2 if few.client != large.client else 1), Move(other, 1))
