"""``fedmend compare``: run a comparison from a TOML file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fedmend.cli.case_loading import choose_device
from fedmend.cli.console import EXIT_BAD_INPUT, progress_bars, show
from fedmend.comparison import (
    Cell,
    CellSettings,
    Plan,
    Results,
    Row,
    Running,
    cells_of,
    default_workers,
    misses_first,
    read_plan,
    rows_of,
    with_honest,
)
from fedmend.comparison import compare as run_comparison
from fedmend.comparison.comparison_tables import as_json, table_files
from fedmend.federation.frozen_table import plain
from fedmend.files import write_together
from fedmend.pages import ComparisonContents, render_comparison
from fedmend.version_info import versions

_SHOWN = 5


def compare(
    config: Path, out: Path, resume: bool, device: str, workers: int | None, keep_checkpoints: bool
) -> int:
    """See :func:`fedmend.cli.compare_options.compare`."""
    plan, where = read_plan(config), choose_device(device)
    page = _Page(plan, cells_of(plan), out, config.stem)
    with progress_bars() as progress:
        running = Running(
            default_workers(where) if workers is None else workers,
            CellSettings(where, keep_checkpoints=keep_checkpoints),
            progress,
            page.write,
        )
        results = run_comparison(plan, out, running, resume=resume)
    show(summary(rows_of(page.cells, results, plan.limits), results))
    show(f"Report: {out / 'comparison.html'}")
    failed = [result for result in results.values() if result.ended == "failed"]
    if failed:
        show(f"fedmend: {len(failed)} of {len(results)} federations failed: {failed[0].error}", err=True)
    return EXIT_BAD_INPUT if failed else 0


def summary(rows: tuple[Row, ...], results: Results) -> str:
    """How many combinations miss a limit, and the worst of them."""
    missed = [row for row in misses_first(rows) if row.misses]
    lines = [f"{len(results)} federations, {len(rows)} combinations: {len(missed) or 'none'} missed a limit"]
    for row in missed[:_SHOWN]:
        named = ", ".join(f"{name} {label}" for name, label in row.choices.items()) or "the only one"
        asr = "" if row.released_asr is None else f" (released ASR at most {row.released_asr.largest:.1%})"
        lines.append(f"  {named}: {' and '.join(row.misses)}{asr}")
    if len(missed) > _SHOWN:
        lines.append(f"  and {len(missed) - _SHOWN} more")
    return "\n".join(lines)


@dataclass(frozen=True)
class _Page:
    """Writes a comparison's results so far."""

    plan: Plan
    cells: tuple[Cell, ...]
    out: Path
    title: str

    def write(self, results: Results) -> None:
        rows = rows_of(self.cells, results, self.plan.limits)
        planned = {cell.key for cell in (with_honest(self.cells) if self.plan.honest else self.cells)}
        contents = ComparisonContents(
            title=self.title,
            rows=rows,
            limits=self.plan.limits,
            done=len(results),
            planned=len(planned),
            columns=self.plan.columns,
            settings=plain(self.plan.base),
            versions=versions(),
        )
        files = {
            "comparison.html": render_comparison(contents),
            "comparison.json": as_json(rows, self.plan.limits),
        }
        write_together(self.out, files | table_files(rows))
