"""The options of ``fedmend scan``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fedmend.cli import known_names, options
from fedmend.cli.completion import complete


@options.command()
@click.argument("suspects", nargs=-1, metavar="SUSPECT...")
@options.common(required=False)
@options.effort
@options.memory
@click.option(
    "--method",
    "methods",
    multiple=True,
    metavar="NAME",
    shell_complete=complete((*known_names.DETECTORS, known_names.ALL)),
    help=f"{options.DETECTOR_HELP} Repeat it to scan with several; all takes every one that the case allows and shows "
    "where they disagree.  [default: differential; without --reference abs and mm-bd]",
)
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Scan each model this many times, with the seeds from --seed on.",
)
@click.option(
    "--again",
    type=click.Path(path_type=Path),
    metavar="REPORT",
    help="Repeat the scan whose scan.json this is, from the same files; they are checked first. The network's code is "
    "run as the report names it, so use only reports that you trust.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder for scan.json, scan.safetensors with its tensors, report.html and, if a trigger was recovered, "
    "trigger.safetensors; further triggers are trigger-2.safetensors and so on. Several scans have a folder in it "
    "each, beside summary.json.  [default: fedmend-scan]",
)
@click.option(
    "--overwrite",
    is_flag=True,
    help="Give up earlier results at --out.  [default: they are moved to a folder there, earlier-1 and so on]",
)
@click.pass_context
def scan(context: click.Context, /, **given: Any) -> int:
    """Search each model file SUSPECT for a backdoor; 'rounds/*.pt' names several.

    A clean verdict means that nothing sets the suspect apart from the reference. A backdoor that both have can't be
    found so: pin a reference that was verified, and take a detector that needs none as a second opinion.

    Without --reference, the suspect alone is searched for a class that stands out from its others. Then a clean verdict
    is weak evidence, and the report says what such a scan can't tell.

    Exit code: 0 clean, 1 backdoored, 2 bad input, 3 inconclusive; of several scans the worst, in the order 1, 2, 3, 0.
    """
    from fedmend.cli import scan_command  # imports torch

    return scan_command.scan(context, **given)
