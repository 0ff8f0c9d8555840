"""Start the same simulation again and again, and kill it with SIGKILL one moment later each time.

    python killed_runs.py FOLDER

The moments are in the middle of every write, and before and after every move of a file into place. Folder
``FOLDER/007`` is what the eighth run left behind; the first run that isn't killed is the last.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tiny_data import data, settings

from fedmend.federation import SimulationConfig, simulate


def config() -> SimulationConfig:
    return settings(
        model={"architecture": "tiny_nets:conv"},
        federation={"clients": 4, "clients_per_round": 2, "rounds": 2},
        aggregation={"kind": "fedavgm"},
        attack=[{"attackers": 1}],
    )


class Torn:
    """A file that is written in two halves."""

    def __init__(self, file: Any, moment: Callable[[], None]) -> None:
        self.file, self.moment = file, moment

    def __enter__(self) -> Torn:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, content: bytes) -> None:
        self.file.write(content[: len(content) // 2])
        self.file.flush()
        self.moment()
        self.file.write(content[len(content) // 2 :])


def die_at(last: int) -> None:
    """Patch what writes files so that this process kills itself at its moment number ``last``."""
    passed = 0
    open_file, replace = Path.open, Path.replace

    def moment() -> None:
        nonlocal passed
        if passed == last:
            os.kill(os.getpid(), signal.SIGKILL)
        passed += 1

    def opened(path: Path, mode: str = "r", *rest: Any, **named: Any) -> Any:
        return Torn(open_file(path, mode), moment) if mode == "ab" else open_file(path, mode, *rest, **named)

    def written(path: Path, content: bytes | str, **_: Any) -> None:
        content = content.encode() if isinstance(content, str) else content
        with Torn(open_file(path, "wb"), moment) as file:
            file.write(content)

    def replaced(path: Path, target: Path) -> Path:
        moment()
        result = replace(path, target)
        moment()
        return result

    os.fsync = lambda _: None  # type: ignore[assignment]  # the system lives on, and with it what was written
    Path.open, Path.write_bytes, Path.write_text = opened, written, written  # type: ignore[assignment]
    Path.replace = replaced  # type: ignore[assignment]


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    torch.optim.SGD([torch.zeros(1)], 0.1)  # makes torch import what each child would import by itself
    images = data()
    for last in range(1000):
        child = os.fork()
        if child == 0:
            die_at(last)
            simulate(config(), folder / f"{last:03d}", data=images)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        if os.WIFEXITED(status):
            sys.exit(os.WEXITSTATUS(status))
        if os.WTERMSIG(status) != signal.SIGKILL:
            sys.exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
