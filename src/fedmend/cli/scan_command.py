"""``fedmend scan``: is this model backdoored?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from fedmend.cli import options
from fedmend.cli.case_loading import load_case
from fedmend.cli.console import progress_bars, show
from fedmend.cli.data_options import DataChoice
from fedmend.cli.method_choice import chosen_detectors
from fedmend.cli.model_options import ModelChoice
from fedmend.cli.repetition import EARLIER, Earlier, repeating, unchanged_since
from fedmend.cli.saving import SCAN_AND_REPAIR, check_folder, save_results, scan_files
from fedmend.cli.scan_text import summary
from fedmend.cli.several_scans import Scan, expanded, planned, run_all
from fedmend.detection import DetectorChoice, Effort, Need, ScanReport
from fedmend.detection import scan as run_scan
from fedmend.detection.tensors_beside import without_tensors

EXIT_CODES = {"clean": 0, "backdoored": 1, "inconclusive": 3}


def scan(
    context: click.Context,
    /,
    suspects: tuple[str, ...],
    again: Path | None,
    seeds: int,
    out: Path | None,
    overwrite: bool,
    as_json: bool,
    **choices: Any,
) -> int:
    """See :func:`fedmend.cli.scan_options.scan`."""
    if again is not None:
        repeated: int = context.command.invoke(repeating(context, again))
        return repeated
    earlier: Earlier | None = context.meta.get(EARLIER)
    options.require(suspects, choices["model"], choices["data"])
    out = out or Path("fedmend-scan")
    choice, paths = _Choice(**choices), expanded(suspects, choices["reference"])
    if seeds == 1 and paths == [Path(suspects[0])]:
        report = _scan_one(choice, paths[0], choice.seed, out, overwrite, earlier)
        text = without_tensors(report.to_json())[0]
        show(text if as_json else f"{summary(report)}\nReport: {out / 'report.html'}")
        if earlier is not None:
            show(earlier.compared(report), err=as_json)
        return EXIT_CODES[report.verdict]

    def scan_one(each: Scan) -> ScanReport:
        return _scan_one(choice, each.suspect, each.seed, each.folder, overwrite)

    return run_all(
        planned(paths, choice.seed, seeds, out), out, scan_one, overwrite=overwrite, as_json=as_json
    )


@dataclass(frozen=True)
class _Choice:
    """What a command line says about a scan, beside the suspect."""

    reference: Path | None
    model: ModelChoice
    data: DataChoice
    expected_accuracy: float | None
    device: str
    seed: int
    effort: Effort | None
    memory: int | None
    methods: tuple[str, ...]


def _scan_one(
    choice: _Choice, suspect: Path, seed: int, out: Path, overwrite: bool, earlier: Earlier | None = None
) -> ScanReport:
    """Scan one model and write the results."""
    lacks = frozenset({Need.REFERENCE}) if choice.reference is None else frozenset()
    detectors = chosen_detectors(choice.methods, lacks, choice.effort, choice.memory)
    stages = len(detectors.detectors if isinstance(detectors, DetectorChoice) else detectors)
    check_folder(out, SCAN_AND_REPAIR, [suspect, choice.reference])
    loaded = load_case(
        suspect, choice.reference, choice.model, choice.data, choice.device, seed, choice.expected_accuracy
    )
    if earlier is not None:
        unchanged_since(earlier, loaded.provenance)
    with progress_bars(stages=stages) as progress:
        report = run_scan(loaded.to_scan(), detectors, seed=seed, progress=progress)
    report = loaded.recorded(report)
    earlier_repair = {"repair.json": None}  # maybe of another model
    save_results(out, {**scan_files(report, out), **earlier_repair}, overwrite=overwrite)
    return report
