"""Short simulations, and what tests compare of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tiny_data import data, settings
from torch import Tensor

from fedmend.checkpoints import read_state
from fedmend.federation import AttackRecord, Execution, RoundRecord, RunFolder, SimulationConfig, simulate
from fedmend.parameters import flatten
from fedmend.progress import Progress, silent


class Killed(BaseException):
    """What a test throws to stop a run."""


def stopping_at(round_number: int) -> Callable[[str, int, int], None]:
    def progress(stage: str, done: int, total: int) -> None:
        if done == round_number:
            raise Killed

    return progress


def run(
    config: SimulationConfig,
    out: Path,
    *,
    progress: Progress = silent,
    workers: int | None = 1,
    **options: Any,
) -> RunFolder:
    execution = Execution(workers=workers, progress=progress)
    return simulate(config, out, data=data(), execution=execution, **options)


def busy(net: str = "tiny_nets:conv", **tables: Any) -> SimulationConfig:
    """An attacked federation with batch statistics, dropout, Adam and server momentum, three rounds long."""
    base: dict[str, Any] = {
        "model": {"architecture": net},
        "training": {"optimizer": "adam", "lr": 0.01},
        "aggregation": {"kind": "fedavgm", "momentum": 0.5},
        "attack": [{"first_round": 2}],
    }
    return settings(**(base | tables))


def timeless(run: RunFolder) -> tuple[list[RoundRecord], tuple[AttackRecord, ...]]:
    return [replace(record, seconds=None) for record in run.records()], run.attacker.records()


def states(run: RunFolder) -> dict[str, dict[str, Tensor]]:
    """Every file of the folder of checkpoints, the aggregation rule's states among them."""
    return {file.name: read_state(file) for file in sorted((run.path / "checkpoints").glob("round-*"))}


def weights(checkpoint: Path) -> Tensor:
    return flatten(dict(sorted(read_state(checkpoint).items())))


def assert_same(run: RunFolder, other: RunFolder) -> None:
    """The same rounds, the same lines but for the seconds, and every checkpoint equal bit for bit."""
    assert timeless(run) == timeless(other)
    assert len(run.lines.path.read_bytes().splitlines()) == len(other.records())
    if other.attacker.records():
        assert len(run.attacker.lines.path.read_bytes().splitlines()) == len(other.attacker.records())
    mine, theirs = states(run), states(other)
    assert list(mine) == list(theirs)
    for name, state in mine.items():
        assert state.keys() == theirs[name].keys()
        for key, value in state.items():
            same = theirs[name][key]
            assert value.dtype == same.dtype
            assert value.numpy().tobytes() == same.numpy().tobytes(), (name, key)
