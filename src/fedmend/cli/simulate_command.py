"""``fedmend simulate``: run a federation from a TOML file."""

from __future__ import annotations

from pathlib import Path

import click

from fedmend.cli.case_loading import choose_device
from fedmend.cli.console import progress_bars
from fedmend.federation import RunFolder, read_config
from fedmend.federation import simulate as run_simulation


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for the run's results.")
@click.option("--resume", is_flag=True, help="Go on with the run in that folder.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, ...")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="How many clients train at once, each in a process of its own.  [default: on a CPU, torch's threads]",
)
def simulate(config: Path, out: Path, resume: bool, device: str, workers: int | None) -> None:
    """Simulate a federation, honest or under attack, as CONFIG (a TOML file) says.

    Writes settings, a checkpoint a round and the accuracy and attack success rate by round. A killed run goes on
    with --resume and ends as if it had not been interrupted.
    """
    with progress_bars() as progress:
        run = run_simulation(
            read_config(config),
            out,
            resume=resume,
            device=choose_device(device),
            workers=workers,
            progress=progress,
        )
    click.echo(summary(run))


def summary(run: RunFolder) -> str:
    """A run's last round in a few lines."""
    last = run.records()[-1]
    attack = "" if last.asr is None else f", attack success rate {last.asr:.1%}"
    return f"Round {last.round}: accuracy {last.accuracy:.1%}{attack}\nModel: {run.checkpoint(last.round)}"
