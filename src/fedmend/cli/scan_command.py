"""``fedmend scan``: is this model backdoored?"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import click

from fedmend.checkpoints import save_trigger
from fedmend.cli import options
from fedmend.cli.case_loading import load_case
from fedmend.cli.console import progress_bars
from fedmend.detection.scan_report import ScanReport
from fedmend.detection.scanning import scan as run_scan
from fedmend.files import write_text
from fedmend.pages import read_folder, write_page

EXIT_CODES = {"clean": 0, "backdoored": 1, "inconclusive": 3}


@click.command()
@options.suspect
@options.common()
@options.inversion("--method")
@click.option(
    "--out",
    default="fedmend-scan",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder for scan.json, trigger.safetensors and report.html.",
)
def scan(
    suspect: Path,
    reference: Path,
    architecture: str,
    source: str,
    split: str,
    count: int | None,
    method: str,
    device: str,
    seed: int,
    as_json: bool,
    out: Path,
) -> int:
    """Search the model file SUSPECT for a backdoor.

    Exit code: 0 clean, 1 backdoored, 2 bad input, 3 inconclusive.
    """
    case = load_case(suspect, reference, architecture, source, split, count, device, seed)
    with progress_bars() as progress:
        report = run_scan(
            case.suspect,
            reference=case.reference,
            images=case.chosen.images,
            labels=case.chosen.labels,
            class_names=case.images.class_names,
            method=options.METHODS[method],
            seed=seed,
            progress=progress,
        )
    with suppress(OSError):
        (out / "repair.json").unlink()  # an earlier repair's, maybe of another model: not for this report
    page = save_scan(report, out)
    click.echo(report.to_json() if as_json else f"{told(report)}\nReport: {page}")
    return EXIT_CODES[report.verdict]


def save_scan(report: ScanReport, out: Path) -> Path:
    """Write a scan's three files; returns the report's path."""
    write_text(out / "scan.json", report.to_json() + "\n")
    save_trigger(report.trigger, out / "trigger.safetensors")
    page = out / "report.html"
    write_page(page, read_folder(out))
    return page


def told(report: ScanReport) -> str:
    """A scan's verdict and reason for a person."""
    warnings = "".join(f"\nWarning: {warning}" for warning in report.warnings)
    return f"{report.verdict.upper()}. {report.reason}{warnings}"
