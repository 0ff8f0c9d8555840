"""``fedmend compare``: run a comparison from a TOML file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fedmend.cli.case_loading import choose_device
from fedmend.cli.console import EXIT_BAD_INPUT, progress_bars, show
from fedmend.comparison import (
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
    results_page = _Results(plan, out, config.stem)
    with progress_bars() as progress:
        running = Running(
            default_workers(where) if workers is None else workers,
            CellSettings(where, keep_checkpoints=keep_checkpoints),
            progress,
            results_page.write,
        )
        results = run_comparison(plan, out, running, resume=resume)
    show(summary(results_page.rows(results), results))
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
class _Results:
    """Writes a comparison's results so far."""

    plan: Plan
    out: Path
    title: str

    def rows(self, results: Results) -> tuple[Row, ...]:
        return rows_of(cells_of(self.plan), results, self.plan.limits)

    def write(self, results: Results) -> None:
        rows, cells = self.rows(results), cells_of(self.plan)
        planned = {cell.key for cell in (with_honest(cells) if self.plan.honest else cells)}
        page = render_comparison(
            ComparisonContents(
                title=self.title,
                rows=rows,
                limits=self.plan.limits,
                done=len(results),
                planned=len(planned),
                columns=self.plan.columns,
                settings=plain(self.plan.base),
                versions=versions(),
            )
        )
        files = {"comparison.html": page, "comparison.json": as_json(rows, self.plan.limits)}
        write_together(self.out, files | table_files(rows))
