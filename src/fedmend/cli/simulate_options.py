"""The options of ``fedmend simulate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fedmend.cli import options


@options.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for the run's results.")
@click.option("--resume", is_flag=True, help="Continue the run in that folder.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, ...")
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="NAME=VALUE",
    help="Replace a setting, such as training.lr=0.01, data.partition=iid or attack.1.first_round=3. Repeatable.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="How many clients train at once, each in its own process.  [default: on a CPU, torch's threads]",
)
@click.option(
    "--engine",
    type=click.Choice(["fedmend", "flower"]),
    default="fedmend",
    show_default=True,
    help="Where clients train: in this process and its workers, or on Flower's simulation engine.",
)
def simulate(**given: Any) -> None:
    """Simulate a federation, honest or under attack, configured by the TOML file CONFIG.

    CONFIG may also be the config.json of an earlier run, whose attacks are then repeated.

    Writes the settings, and for each round a checkpoint and the accuracy. The attacks, their triggers and their
    success rate by round are in the folder attacker, which a defence should not open. --resume continues a killed
    run, with the same result as an uninterrupted one.
    """
    from fedmend.cli import simulate_command  # imports torch

    simulate_command.simulate(**given)
