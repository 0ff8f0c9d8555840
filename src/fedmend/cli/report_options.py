"""The options of ``fedmend report``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fedmend.cli import options


@options.command()
@click.argument("run", type=click.Path(path_type=Path))
def report(**given: Any) -> None:
    """Write RUN/report.html from the results in the folder RUN.

    RUN is a folder written by simulate, scan or repair, or by several of them, or
    a guard's history.
    """
    from fedmend.cli import report_command  # imports torch

    report_command.report(**given)
