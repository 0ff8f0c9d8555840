"""``fedmend simulate``: run a federation from a TOML file."""

from __future__ import annotations

from pathlib import Path

import click

from fedmend.cli.case_loading import choose_device
from fedmend.cli.console import progress_bars
from fedmend.federation import Execution, RunFolder, read_config
from fedmend.federation import simulate as run_simulation


@click.command()
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
def simulate(
    config: Path, out: Path, resume: bool, device: str, changes: tuple[str, ...], workers: int | None
) -> None:
    """Simulate a federation, honest or under attack, configured by the TOML file CONFIG.

    CONFIG may also be the config.json of an earlier run, whose attacks are then repeated.

    Writes the settings, and for each round a checkpoint and the accuracy. The attacks, their triggers and their
    success rate by round are in the folder attacker, which a defence should not open. --resume continues a killed
    run, with the same result as an uninterrupted one.
    """
    with progress_bars() as progress:
        run = run_simulation(
            read_config(config, changes),
            out,
            resume=resume,
            execution=Execution(choose_device(device), workers, progress),
        )
    click.echo(summary(run))


def summary(run: RunFolder) -> str:
    """A run's last round in a few lines."""
    last = run.records()[-1]
    rates = [f"{rate:.1%}" for record in run.attacker.records()[-1:] for rate in record.asr]
    attack = f", attack success rate {' and '.join(rates)}" if rates else ""
    return f"Round {last.round}: accuracy {last.accuracy:.1%}{attack}\nModel: {run.checkpoint(last.round)}"
