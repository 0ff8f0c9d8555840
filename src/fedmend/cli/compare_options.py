"""The options of ``fedmend compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fedmend.cli import options


@options.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for the results.")
@click.option("--resume", is_flag=True, help="Go on with the comparison in that folder.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, ...")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="How many federations run at once, each in its own process with one thread.  "
    "[default: on a CPU, torch's threads]",
)
@click.option(
    "--keep-checkpoints",
    is_flag=True,
    help="Keep the checkpoints of all rounds.  [default: the last one of each federation]",
)
def compare(**given: Any) -> Any:
    """Compare attacks and defences: simulate a federation for each combination in the TOML file CONFIG.

    CONFIG holds the settings of fedmend simulate, and a table [compare]: seeds, named variants such as
    [compare.defence.guard], and in [compare.settings] lists of values for any setting. Every combination is simulated
    with every seed, and so is each federation without its attack and its defence, to know the accuracy that is lost.

    After each federation, the folder's results are written anew: comparison.html, comparison.json, and cells and rounds
    as CSV and parquet. --resume goes on with a comparison that was stopped; it may have more seeds, values and variants
    than before.

    Exit code: 0 if every federation has a result, 2 if some failed on their data or settings.
    """
    from fedmend.cli import compare_command  # imports torch

    return compare_command.compare(**given)
