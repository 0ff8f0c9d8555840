"""``fedmend scan``: is this model backdoored?"""

from __future__ import annotations

from pathlib import Path

import click

from fedmend.cli import options
from fedmend.cli.case_loading import load_case
from fedmend.cli.console import progress_bars
from fedmend.cli.data_options import DataChoice
from fedmend.cli.model_options import ModelChoice
from fedmend.cli.saving import SCAN_AND_REPAIR, check_folder, save_results, scan_files
from fedmend.detection import Effort, ScanReport
from fedmend.detection import scan as run_scan

EXIT_CODES = {"clean": 0, "backdoored": 1, "inconclusive": 3}


def scan(
    suspect: Path,
    reference: Path | None,
    model: ModelChoice,
    data: DataChoice,
    methods: tuple[str, ...],
    effort: Effort | None,
    device: str,
    seed: int,
    as_json: bool,
    out: Path,
) -> int:
    """See :func:`fedmend.cli.scan_options.scan`."""
    detectors = [options.chosen_detector(name, effort) for name in methods]
    check_folder(out, SCAN_AND_REPAIR, [suspect, reference])
    loaded = load_case(suspect, reference, model, data, device, seed)
    with progress_bars(stages=len(detectors)) as progress:
        report = run_scan(loaded.to_scan(), detectors, seed=seed, progress=progress)
    earlier_repair = {"repair.json": None}  # maybe of another model
    page = save_results(out, {**scan_files(report, out), **earlier_repair})
    click.echo(report.to_json() if as_json else f"{summary(report)}\nReport: {page}")
    return EXIT_CODES[report.verdict]


def summary(report: ScanReport) -> str:
    """A scan's verdict, reason, p-value and warnings, as printed."""
    lines = [f"{report.verdict.upper()}. {report.reason}"]
    for finding in report.findings:
        if finding.p_value is not None:
            lines.append(
                f"p-value: {finding.p_value:.2g}, how often an honest model would look at least this suspicious to "
                f"the detector {finding.detector}."
            )
    warnings = [*report.warnings, *(text for finding in report.findings for text in finding.warnings)]
    return "\n".join([*lines, *(f"Warning: {text}" for text in warnings)])
