"""``fedmend simulate``: run a federation from a TOML file."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from fedmend.cli.case_loading import choose_device
from fedmend.cli.console import progress_bars, show
from fedmend.errors import ConfigError
from fedmend.federation import Execution, RunFolder, read_config
from fedmend.federation import simulate as run_simulation
from fedmend.federation.reviews import release_all
from fedmend.guard import History, counted, guarded


def simulate(
    config: Path,
    out: Path,
    resume: bool,
    device: str,
    changes: tuple[str, ...],
    workers: int | None,
    engine: str,
) -> None:
    """See :func:`fedmend.cli.simulate_options.simulate`."""
    settings, where = read_config(config, changes), choose_device(device)
    review = release_all if settings.guard is None else guarded(settings, out, device=where)
    with progress_bars() as progress:
        run = on_engine(engine)(
            settings, out, resume=resume, execution=Execution(where, workers, progress), review=review
        )
    show(summary(run))


def on_engine(engine: str) -> Callable[..., RunFolder]:
    """What runs a simulation.

    Raises:
        ConfigError: Flower isn't installed.
    """
    if engine == "fedmend":
        return run_simulation
    if find_spec("flwr") is None:
        raise ConfigError(
            "--engine flower needs Flower; install it: pip install 'fedmend[flower]' 'flwr[simulation]'"
        )
    from fedmend.integrations.flower.simulation_engine import simulate_on_flower

    return simulate_on_flower


def summary(run: RunFolder) -> str:
    """A run's last round in a few lines."""
    last = run.records()[-1]
    rates = [f"{rate:.1%}" for record in run.attacker.records()[-1:] for rate in record.asr]
    attack = f", attack success rate {' and '.join(rates)}" if rates else ""
    model = f"Model: {run.checkpoint(last.round)}"
    if not run.guard.exists():
        return f"Round {last.round}: accuracy {last.accuracy:.1%}{attack}\n{model}"
    history = History(run.guard)
    released = history.read()[0].last
    if released is None:
        model = "Model: the guard released none"
    elif last.decision == "hold":
        model = f"Model: {history.models / released.stored.file}, the last that the guard released"
    return f"Round {last.round}: accuracy {last.accuracy:.1%}{attack}\n{guard_line(history)}\n{model}"


def guard_line(history: History) -> str:
    """How a guard decided, in a line."""
    lines = [each for each in history.lines() if each.round is not None]
    return f"Guard: {counted(lines)}" + ("; it stopped the federation" if lines and lines[-1].stop else "")
