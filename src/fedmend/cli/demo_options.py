"""The options of ``fedmend demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fedmend.cli import options


@options.command()
@click.option(
    "--out",
    default="fedmend-demo",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder for the results; an interrupted demo there is resumed.",
)
@click.option("--fast", is_flag=True, help="Fewer rounds, and a less accurate model.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, ...")
def demo(**given: Any) -> None:
    """Attack a small federation, find the backdoor and repair the model, on real images.

    Twenty clients train a ConvNet on a sample of Fashion-MNIST; in the last rounds one of them plants a backdoor.
    The last model is scanned, with an earlier one as the reference, and repaired.
    """
    from fedmend.cli import demo_command  # imports torch

    demo_command.demo(**given)
