"""A comparison's rows: for each combination of variants, what its runs with several seeds say together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedmend.comparison.cell_results import CellResult
from fedmend.comparison.comparison_cells import Cell
from fedmend.comparison.comparison_plan import Limits
from fedmend.comparison.seed_intervals import Estimate, estimated

NOTHING_RELEASED = "no model released"
"""The miss of a defence that lets no model through."""


@dataclass(frozen=True)
class SeedRun:
    """A cell that has run, and its honest federation, if that has."""

    cell: Cell
    result: CellResult
    honest: CellResult | None

    @property
    def accuracy_lost(self) -> float | None:
        """Against the same federation without an attack and without a defence; negative if it gained."""
        if self.honest is None or self.honest.accuracy is None or self.result.accuracy is None:
            return None
        return self.honest.accuracy - self.result.accuracy


@dataclass(frozen=True)
class Row:
    """One combination of variants.

    Attributes:
        choices: see :class:`fedmend.comparison.Cell`.
        runs: one for each seed that has run. planned: how many seeds there are.
        accuracy, lost, released_asr, final_asr, seconds: over the seeds; None where no run has a value.
        misses: which limits some seed's run misses, in words.
    """

    choices: Mapping[str, str]
    runs: tuple[SeedRun, ...]
    planned: int
    accuracy: Estimate | None
    lost: Estimate | None
    released_asr: Estimate | None
    final_asr: Estimate | None
    seconds: Estimate | None
    misses: tuple[str, ...]

    @property
    def curve(self) -> tuple[tuple[int, float], ...]:
        """The mean over the seeds of the largest ASR, by round."""
        by_round: dict[int, list[float]] = {}
        for run in self.runs:
            for each in run.result.rounds:
                if each.asr:
                    by_round.setdefault(each.round, []).append(max(each.asr))
        return tuple((number, sum(rates) / len(rates)) for number, rates in sorted(by_round.items()))


def rows_of(cells: Sequence[Cell], results: Mapping[str, CellResult], limits: Limits) -> tuple[Row, ...]:
    """A row for each combination, in the order of the cells.

    Args:
        cells: of a plan, without the honest federations that accompany them.
        results: those that are there, by key.
        limits: what counts as a miss; in several runs, the worst decides.
    """
    groups: dict[tuple[tuple[str, str], ...], list[Cell]] = {}
    for cell in cells:
        groups.setdefault(tuple(cell.choices.items()), []).append(cell)
    return tuple(_row(dict(choices), group, results, limits) for choices, group in groups.items())


def misses_first(rows: Sequence[Row]) -> list[Row]:
    """The rows that miss a limit, the largest ASR first, then the others as they were."""

    def rank(row: Row) -> tuple[bool, float]:
        return not row.misses, -(row.released_asr.largest if row.misses and row.released_asr else 0.0)

    return sorted(rows, key=rank)


def _row(
    choices: Mapping[str, str], cells: Sequence[Cell], results: Mapping[str, CellResult], limits: Limits
) -> Row:
    runs = tuple(
        SeedRun(cell, results[cell.key], results.get(cell.honest().key))
        for cell in cells
        if cell.key in results
    )
    done = [run.result for run in runs]
    lost = [run.accuracy_lost for run in runs]
    return Row(
        choices,
        runs,
        len(cells),
        _over([each.accuracy for each in done]),
        _over(lost, (-1.0, 1.0)),
        _over([each.released_asr for each in done]),
        _over([each.final_asr for each in done]),
        _over([each.seconds for each in done], (0.0, float("inf"))),
        tuple(_misses(runs, limits)),
    )


def _over(values: Sequence[float | None], bounds: tuple[float, float] = (0.0, 1.0)) -> Estimate | None:
    return estimated([value for value in values if value is not None], bounds)


def _misses(runs: Sequence[SeedRun], limits: Limits) -> list[str]:
    found = []
    if any(run.result.ended != "complete" for run in runs):
        found.append(" and ".join(sorted({run.result.ended for run in runs} - {"complete"})))
    if any(run.result.ended == "complete" and run.result.accuracy is None for run in runs):
        found.append(NOTHING_RELEASED)
    if max((run.result.released_asr or 0.0 for run in runs), default=0.0) > limits.released_asr:
        found.append("released ASR")
    if max((run.accuracy_lost or 0.0 for run in runs), default=0.0) > limits.accuracy_lost + 1e-9:
        found.append("accuracy")
    return found
