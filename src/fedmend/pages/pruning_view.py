"""The page's view of a repair by pruning: chart, stages, channels, extreme weights and votes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from fedmend.pages import charts, svg, words
from fedmend.pages.contents import PageContents, PruneEvaluation
from fedmend.pages.found_triggers import FoundTriggers, view_of_found_triggers
from fedmend.repairs.repair_report import PruningDetails, RepairReport

MAX_IN_GRID = 128
MAX_WEIGHTS = 10
ADJUSTING = ("adjusted", "adjusted again")


@dataclass(frozen=True)
class StageRow:
    """A row of the table of stages; ``test_accuracy`` is None, and ``asr`` empty, outside a simulation.

    ``delta`` is a dash if the stage has none; ``unbounded``: it adjusts weights, but no delta kept the accuracy.
    """

    name: str
    note: str
    accuracy: float
    zeroed: int
    delta: str
    unbounded: bool
    test_accuracy: float | None
    asr: tuple[float, ...]


@dataclass(frozen=True)
class PointRow:
    """A testing point of the chart; ``asr`` has one value for each attack, none outside a simulation."""

    pruned: int
    accuracy: float
    asr: tuple[float, ...]
    stopped: bool


@dataclass(frozen=True)
class Weight:
    """An extreme weight's place and value, in words."""

    place: tuple[int, ...]
    value: str


@dataclass(frozen=True)
class PruningView:
    """The section on pruning.

    Attributes:
        found: the triggers that clients found; None if there are none.
        channels: whether each channel was pruned, by number; empty if there are too many for a grid.
        adjusted: the last stage that set extreme weights to zero, None if there is none. weights: the largest of them.
    """

    repair: RepairReport
    details: PruningDetails
    evaluation: PruneEvaluation | None
    vote: str
    found: FoundTriggers | None
    chart: Markup | None
    points: list[PointRow]
    stages: list[StageRow]
    channels: list[bool]
    pruned: list[int]
    adjusted: StageRow | None
    weights: list[Weight]


def view_of_pruning(contents: PageContents, class_names: Sequence[str]) -> PruningView | None:
    """Gather the section's parts; None without a repair by pruning."""
    repair, details, evaluation = contents.repair, contents.pruning, contents.prune_evaluation
    if repair is None or details is None:
        return None
    points, stages = _points(details, evaluation), _stages(details, evaluation)
    adjusted = [row for row, stage in zip(stages, details.stages, strict=True) if stage.name in ADJUSTING]
    pruned = sorted(details.pruned)
    return PruningView(
        repair=repair,
        details=details,
        evaluation=evaluation,
        vote=words.VOTES[details.vote],
        found=view_of_found_triggers(details, class_names),
        chart=_chart(points, len(pruned)),
        points=points,
        stages=stages,
        channels=_grid(details),
        pruned=pruned,
        adjusted=adjusted[-1] if adjusted else None,
        weights=[
            Weight(place, _weight(value))
            for place, value in list(zip(details.extreme, details.values, strict=True))[:MAX_WEIGHTS]
        ],
    )


def _points(details: PruningDetails, evaluation: PruneEvaluation | None) -> list[PointRow]:
    asr = evaluation.asr_along if evaluation else ((),) * len(details.points)
    return [
        PointRow(pruned, accuracy, success, pruned == len(details.pruned))
        for pruned, accuracy, success in zip(details.points, details.accuracies, asr, strict=True)
    ]


def _stages(details: PruningDetails, evaluation: PruneEvaluation | None) -> list[StageRow]:
    accuracy = evaluation.accuracy if evaluation else (None,) * len(details.stages)
    asr = evaluation.asr if evaluation else ((),) * len(details.stages)
    return [
        StageRow(
            *words.STAGES[stage.name],
            stage.accuracy,
            stage.zeroed,
            words.MISSING if stage.delta is None else words.number(stage.delta),
            stage.name in ADJUSTING and stage.delta is None,
            test_accuracy,
            success,
        )
        for stage, test_accuracy, success in zip(details.stages, accuracy, asr, strict=True)
    ]


def _grid(details: PruningDetails) -> list[bool]:
    if details.channels > MAX_IN_GRID:
        return []
    pruned = set(details.pruned)
    return [channel in pruned for channel in range(details.channels)]


def _weight(value: float) -> str:
    if not math.isfinite(value):
        return words.MISSING
    return f"{value:.{3 if abs(value) >= 0.0005 else 6}f}".replace("-", "\u2212")


def _chart(points: list[PointRow], stop: int) -> Markup | None:
    """Accuracy, and the attack success rate if it is known, by the number of channels pruned."""
    if len(points) < 2:
        return None
    height, first, last = 240, points[0].pruned, points[-1].pruned

    def across(pruned: int) -> float:
        return charts.clamp((pruned - first) / (last - first))

    children = charts.percent_grid(height)
    children += charts.steps(first, last, height)
    children.append(svg.vertical(across(stop), -20, height, "mark stop"))
    runs = [("curve accuracy", [(across(row.pruned), charts.clamp(row.accuracy)) for row in points])]
    attacks = len(points[0].asr)
    for attack in range(attacks):
        run = [(across(row.pruned), charts.clamp(row.asr[attack])) for row in points]
        runs.append((f"curve asr dash-{attack % 3}", run))
    described = f"stopped with {stop} pruned"
    side, label = ("start", f"\u2002{described}") if across(stop) < 0.55 else ("end", f"{described}\u2002")
    children += [
        svg.curves(runs, height),
        svg.text(label, across(stop), -10, kind="mark-label stop", anchored=side),
    ]
    title = (
        "Accuracy and attack success rate by channels pruned" if attacks else "Accuracy by channels pruned"
    )
    return svg.picture("pruned", title, _description(points, stop), height, "lines pruned", children)


def _description(points: list[PointRow], stop: int) -> str:
    shown = [points[0], *(row for row in points[1:-1] if row.stopped), points[-1]]
    described = ", ".join(f"{words.percent(row.accuracy)} with {row.pruned} pruned" for row in shown)
    text = f"Clean accuracy: {described}. Pruning stopped with {stop} pruned."
    attacks = len(points[0].asr)
    for attack in range(attacks):
        name = "Attack success rate" if attacks == 1 else f"Success rate of attack {attack + 1}"
        described = ", ".join(f"{words.percent(row.asr[attack])} with {row.pruned}" for row in shown)
        text += f" {name}, unknown to the defender: {described}."
    return text + " The figures are in the table below."
