"""``fedmend scan``: is this model backdoored?"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import click

from fedmend.checkpoints import save_trigger
from fedmend.cli import options
from fedmend.cli.case_loading import load_case
from fedmend.cli.console import progress_bars, show
from fedmend.cli.data_options import DataChoice
from fedmend.cli.model_options import ModelChoice
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
    help="Folder for scan.json, report.html and, if a trigger was recovered, trigger.safetensors; further triggers "
    "are trigger-2.safetensors and so on.",
)
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
    """Search the model file SUSPECT for a backdoor.

    Exit code: 0 clean, 1 backdoored, 2 bad input, 3 inconclusive.
    """
    detectors = [options.chosen_detector(name, effort) for name in methods]
    loaded = load_case(suspect, reference, model, data, device, seed)
    with progress_bars() as progress:
        report = run_scan(loaded.to_scan(), detectors, seed=seed, progress=progress)
    with suppress(OSError):
        (out / "repair.json").unlink()  # from an earlier repair, maybe of another model
    page = save_scan(report, out)
    show(report.to_json() if as_json else f"{summary(report)}\nReport: {page}")
    return EXIT_CODES[report.verdict]


def save_scan(report: ScanReport, out: Path) -> Path:
    """Write a scan's files; returns the page's path.

    ``trigger.safetensors`` holds the first trigger of the most suspicious finding that recovered one,
    ``trigger-2.safetensors`` its second, and so on. An earlier scan's are removed.
    """
    write_text(out / "scan.json", report.to_json() + "\n")
    for earlier in (*out.glob("trigger-[0-9]*.safetensors"), out / "trigger.safetensors"):
        earlier.unlink(missing_ok=True)
    with_trigger = [finding for finding in report.findings if recovered(finding) is not None]
    targets = most_suspicious(with_trigger).targets if with_trigger else ()
    triggers = [target.trigger for target in targets if target.trigger is not None]
    for number, trigger in enumerate(triggers, start=1):
        save_trigger(
            trigger, out / ("trigger.safetensors" if number == 1 else f"trigger-{number}.safetensors")
        )
    page = out / "report.html"
    write_page(page, read_folder(out))
    return page


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
