"""``fedmend simulate``: run a federation from a TOML file."""

from __future__ import annotations

from pathlib import Path

from fedmend.cli.case_loading import choose_device
from fedmend.cli.console import progress_bars, show
from fedmend.federation import Execution, RunFolder, read_config
from fedmend.federation import simulate as run_simulation


def simulate(
    config: Path, out: Path, resume: bool, device: str, changes: tuple[str, ...], workers: int | None
) -> None:
    """See :func:`fedmend.cli.simulate_options.simulate`."""
    with progress_bars() as progress:
        run = run_simulation(
            read_config(config, changes),
            out,
            resume=resume,
            execution=Execution(choose_device(device), workers, progress),
        )
    show(summary(run))


def summary(run: RunFolder) -> str:
    """A run's last round in a few lines."""
    last = run.records()[-1]
    rates = [f"{rate:.1%}" for record in run.attacker.records()[-1:] for rate in record.asr]
    attack = f", attack success rate {' and '.join(rates)}" if rates else ""
    return f"Round {last.round}: accuracy {last.accuracy:.1%}{attack}\nModel: {run.checkpoint(last.round)}"
