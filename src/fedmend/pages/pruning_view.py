"""What the page shows of a repair by pruning: its chart, its stages, its channels and its extreme weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from fedmend.pages import charts, svg, words
from fedmend.pages.contents import PruneEvaluation
from fedmend.pages.found_triggers import FoundTriggers, found_triggers
from fedmend.repairs.vote_pruning import PruneReport

MAX_IN_GRID = 128
MAX_WEIGHTS = 10
ADJUSTING = ("adjusted", "adjusted again")


@dataclass(frozen=True)
class StageRow:
    """One line of the table of stages; the last two are None outside a simulation.

    ``delta`` is a dash where the stage has none, and ``unbounded`` says that it could have had one.
    """

    name: str
    note: str
    accuracy: float
    zeroed: int
    delta: str
    unbounded: bool
    test_accuracy: float | None
    asr: float | None


@dataclass(frozen=True)
class PointRow:
    """One testing point of the chart; ``asr`` is None outside a simulation."""

    pruned: int
    accuracy: float
    asr: float | None
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
        found: the triggers that clients found; None where there are none.
        channels: of each channel, by number, whether it was pruned; empty where they are too many for a grid.
        adjusted: the last stage that set extreme weights to zero, None where there is no such stage; ``weights``: the
            largest of them.
    """

    report: PruneReport
    evaluation: PruneEvaluation | None
    wording: words.Wording
    no_scan: str
    vote: str
    found: FoundTriggers | None
    chart: Markup | None
    points: list[PointRow]
    stages: list[StageRow]
    channels: list[bool]
    pruned: list[int]
    adjusted: StageRow | None
    weights: list[Weight]


def pruning_view(
    report: PruneReport, evaluation: PruneEvaluation | None, class_names: Sequence[str] = ()
) -> PruningView:
    """Gather the section's parts. Classes without a name are told by their numbers."""
    points, stages = _points(report, evaluation), _stages(report, evaluation)
    adjusted = [row for row, stage in zip(stages, report.stages, strict=True) if stage.name in ADJUSTING]
    pruned = sorted(report.pruned)
    return PruningView(
        report=report,
        evaluation=evaluation,
        wording=words.pruning(report.outcome, bool(adjusted)),
        no_scan=words.NO_SCAN,
        vote=words.VOTES[report.vote],
        found=found_triggers(report, class_names),
        chart=_chart(points, len(pruned)),
        points=points,
        stages=stages,
        channels=_grid(report),
        pruned=pruned,
        adjusted=adjusted[-1] if adjusted else None,
        weights=[
            Weight(place, _weight(value))
            for place, value in list(zip(report.extreme, report.values, strict=True))[:MAX_WEIGHTS]
        ],
    )


def pruning_settings(report: PruneReport) -> list[tuple[str, str]]:
    """The settings of the repair, as dotted names and texts."""
    about = {
        "vote": report.vote,
        "layer": report.layer,
        "max_accuracy_drop": report.max_accuracy_drop,
        "validation_images": report.validation_images or "none: clients report",
        "device": report.device,
    }
    return list(words.flatten({**about, **report.settings}))


def _points(report: PruneReport, evaluation: PruneEvaluation | None) -> list[PointRow]:
    asr = evaluation.asr_along if evaluation else (None,) * len(report.points)
    return [
        PointRow(pruned, accuracy, success, pruned == len(report.pruned))
        for pruned, accuracy, success in zip(report.points, report.accuracies, asr, strict=True)
    ]


def _stages(report: PruneReport, evaluation: PruneEvaluation | None) -> list[StageRow]:
    unknown = (None,) * len(report.stages)
    accuracy = evaluation.accuracy if evaluation else unknown
    asr = evaluation.asr if evaluation else unknown
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
        for stage, test_accuracy, success in zip(report.stages, accuracy, asr, strict=True)
    ]


def _grid(report: PruneReport) -> list[bool]:
    if report.channels > MAX_IN_GRID:
        return []
    pruned = set(report.pruned)
    return [channel in pruned for channel in range(report.channels)]


def _weight(value: float) -> str:
    if not math.isfinite(value):
        return words.MISSING
    return f"{value:.{3 if abs(value) >= 0.0005 else 6}f}".replace("-", "\u2212")


def _chart(points: list[PointRow], stop: int) -> Markup | None:
    """Accuracy, and attack success where it is known, by the number of channels pruned."""
    if len(points) < 2:
        return None
    height, first, last = 240, points[0].pruned, points[-1].pruned

    def across(pruned: int) -> float:
        return charts.clamp((pruned - first) / (last - first))

    children = charts.grid((0, 0.25, 0.5, 0.75, 1), height, lambda tick: f"{100 * tick:.0f}%")
    children += charts.steps(first, last, height)
    children.append(svg.vertical(across(stop), -20, height, "mark stop"))
    runs = [("curve accuracy", [(across(row.pruned), charts.clamp(row.accuracy)) for row in points])]
    known = [(across(row.pruned), charts.clamp(row.asr)) for row in points if row.asr is not None]
    if known:
        runs.append(("curve asr", known))
    told = f"stopped with {stop} pruned"
    side, label = ("start", f"\u2002{told}") if across(stop) < 0.55 else ("end", f"{told}\u2002")
    children += [
        svg.curves(runs, height),
        svg.text(label, across(stop), -10, kind="mark-label stop", anchored=side),
    ]
    title = "Accuracy and attack success by channels pruned" if known else "Accuracy by channels pruned"
    return svg.picture("pruned", title, _told(points, stop), height, "lines pruned", children)


def _told(points: list[PointRow], stop: int) -> str:
    shown = [points[0], *(row for row in points[1:-1] if row.stopped), points[-1]]
    told = ", ".join(f"{words.percent(row.accuracy)} with {row.pruned} pruned" for row in shown)
    text = f"Clean accuracy: {told}. Pruning stopped with {stop} pruned."
    if points[0].asr is not None:
        told = ", ".join(f"{words.percent(row.asr)} with {row.pruned}" for row in shown)
        text += f" Attack success, unknown to the defender: {told}."
    return text + " The figures are in the table below."
