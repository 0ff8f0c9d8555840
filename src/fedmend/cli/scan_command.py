"""``fedmend scan``: is this model backdoored?"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import click

from fedmend.checkpoints import save_trigger
from fedmend.cli import options
from fedmend.cli.case_loading import load_case
from fedmend.cli.console import progress_bars
from fedmend.detection import Effort, ScanReport, most_suspicious, recovered
from fedmend.detection import scan as run_scan
from fedmend.files import write_text
from fedmend.pages import read_folder, write_page

EXIT_CODES = {"clean": 0, "backdoored": 1, "inconclusive": 3}


@click.command()
@options.suspect
@options.common()
@options.effort
@click.option(
    "--method",
    "methods",
    multiple=True,
    default=[options.DEFAULT_DETECTOR],
    show_default=True,
    metavar="NAME",
    help=f"{options.DETECTOR_HELP} Repeat it to scan with several.",
)
@click.option(
    "--out",
    default="fedmend-scan",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder for scan.json, report.html and, if a trigger was recovered, trigger.safetensors.",
)
def scan(
    suspect: Path,
    reference: Path | None,
    architecture: str,
    source: str,
    split: str,
    count: int | None,
    methods: tuple[str, ...],
    effort: Effort | None,
    device: str,
    seed: int,
    as_json: bool,
    out: Path,
) -> int:
    """Search the model file SUSPECT for a backdoor.

    Exit code: 0 clean, 1 backdoored, 2 bad input, 3 inconclusive.
    """
    detectors = [options.chosen_detector(name, effort) for name in methods]
    loaded = load_case(suspect, reference, architecture, source, split, count, device, seed)
    with progress_bars() as progress:
        report = run_scan(loaded.to_scan(), detectors, seed=seed, progress=progress)
    with suppress(OSError):
        (out / "repair.json").unlink()  # from an earlier repair, maybe of another model
    page = save_scan(report, out)
    click.echo(report.to_json() if as_json else f"{summary(report)}\nReport: {page}")
    return EXIT_CODES[report.verdict]


def save_scan(report: ScanReport, out: Path) -> Path:
    """Write a scan's files; returns the page's path.

    ``trigger.safetensors`` holds the trigger of the most suspicious finding that recovered one; without any, an
    earlier scan's file is removed.
    """
    write_text(out / "scan.json", report.to_json() + "\n")
    with_trigger = [finding for finding in report.findings if recovered(finding) is not None]
    target = recovered(most_suspicious(with_trigger)) if with_trigger else None
    if target is not None and target.trigger is not None:
        save_trigger(target.trigger, out / "trigger.safetensors")
    else:
        (out / "trigger.safetensors").unlink(missing_ok=True)
    page = out / "report.html"
    write_page(page, read_folder(out))
    return page


def summary(report: ScanReport) -> str:
    """A scan's verdict, reason and warnings, as printed."""
    warnings = [*report.warnings, *(text for finding in report.findings for text in finding.warnings)]
    return f"{report.verdict.upper()}. {report.reason}" + "".join(f"\nWarning: {text}" for text in warnings)
