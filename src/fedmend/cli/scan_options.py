"""The options of ``fedmend scan``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fedmend.cli import options


@options.command()
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
    shell_complete=options.complete_detector,
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
def scan(**given: Any) -> int:
    """Search the model file SUSPECT for a backdoor.

    Exit code: 0 clean, 1 backdoored, 2 bad input, 3 inconclusive.
    """
    from fedmend.cli import scan_command  # imports torch

    return scan_command.scan(**given)
