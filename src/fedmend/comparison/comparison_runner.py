"""Runs the cells of a comparison, several at once, and reports each result as it comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import torch

from fedmend.checked_settings import Count, require
from fedmend.comparison.cell_results import CellResult
from fedmend.comparison.cell_runs import CellSettings, run_cell
from fedmend.comparison.comparison_cells import Cell, cells_of, with_honest
from fedmend.comparison.comparison_folder import ComparisonFolder
from fedmend.comparison.comparison_plan import Plan
from fedmend.errors import FedmendError
from fedmend.federation.workers import worker_pool
from fedmend.progress import Progress, silent

Results: TypeAlias = dict[str, CellResult]
"""Results by the keys of their cells."""


def _ignore(results: Results) -> None:
    """Do nothing with the results so far (the default)."""


@dataclass(frozen=True)
class Running:
    """How a comparison runs.

    Attributes:
        workers: how many cells run at once. Above 1, each in its own process; a script then needs
            ``if __name__ == "__main__":``. The results are the same for any number, since a cell has one thread.
        cells: how each cell runs.
        progress: called after each cell.
        on_result: called with all results so far, after each cell.

    Raises:
        ConfigError: ``workers`` isn't 1 or more.
    """

    workers: int = 1
    cells: CellSettings = field(default_factory=CellSettings)
    progress: Progress = silent
    on_result: Callable[[Results], None] = _ignore

    def __post_init__(self) -> None:
        require(self.workers, Count, "workers")


def compare(plan: Plan, out: Path | str, running: Running = Running(), *, resume: bool = False) -> Results:
    """Run every cell of a plan in the folder ``out``.

    Args:
        plan: see :func:`fedmend.comparison.read_plan`.
        out: see :class:`fedmend.comparison.ComparisonFolder`.
        running: how.
        resume: go on with the comparison in ``out``: complete cells are read, a killed one goes on where it was.

    Raises:
        ConfigError: a cell's settings are refused, or ``out`` holds a comparison that can't be gone on with.
        OutputError: ``out`` can't be written.
    """
    cells, folder = cells_of(plan), ComparisonFolder(Path(out))
    with folder.locked():
        folder.open(plan, resume=resume)
        return run_cells(with_honest(cells) if plan.honest else cells, folder, running)


def run_cells(cells: Sequence[Cell], folder: ComparisonFolder, running: Running) -> Results:
    """Run cells in their order; those with the same settings once.

    Raises:
        OutputError: a file can't be written. FedmendError: a process died.
    """
    unique = list({cell.key: cell for cell in reversed(cells)}.values())[::-1]
    results: Results = {}
    running.progress("federations", 0, len(unique))
    for result in _results(unique, folder, running):
        results[result.key] = result
        running.progress("federations", len(results), len(unique))
        running.on_result(results)
    return results


def _results(cells: Sequence[Cell], folder: ComparisonFolder, running: Running) -> Iterator[CellResult]:
    workers = min(running.workers, len(cells))
    if workers <= 1:
        yield from (run_cell(cell, folder.run(cell), running.cells) for cell in cells)
        return
    with worker_pool(workers) as (pool, _):
        try:
            waiting = [pool.submit(run_cell, cell, folder.run(cell), running.cells) for cell in cells]
            for future in as_completed(waiting):
                yield future.result()
        except BrokenProcessPool as error:
            raise FedmendError(
                "a process that ran a federation died: it ran out of memory (try fewer workers), or the script has no "
                'if __name__ == "__main__":; then go on with the comparison (--resume)'
            ) from error


def default_workers(device: torch.device | str) -> int:
    """How many cells to run at once if nobody says: on a CPU, the number of torch's threads."""
    return torch.get_num_threads() if torch.device(device).type == "cpu" else 1
