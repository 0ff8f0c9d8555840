"""The options of ``fedmend verify``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fedmend.cli import options


@options.command()
@click.argument("history", type=click.Path(path_type=Path))
@click.option(
    "--public-key",
    type=click.Path(path_type=Path),
    help="A PEM file: also verify that the history was signed with the private key that belongs to it.",
)
def verify(**given: Any) -> Any:
    """Verify a guard's history: that it is complete, and as the guard wrote it.

    HISTORY is the folder of a guard's history, or of a simulation with a guard. Checked are the chain of decisions, the
    manifest, and the file of every model that is kept. The exit code is 0 if all is well, and 1 if not; the first file
    that isn't as it was written is named.
    """
    from fedmend.cli import verify_command  # imports torch

    return verify_command.verify(**given)
