"""Review the same rounds again and again, and kill the process with SIGKILL one moment later each time.

    python killed_guards.py FOLDER

The moments are before, in and after each scan, in the middle of every write, and before and after every move of a file
into place. Folder ``FOLDER/007`` is what the eighth process left behind; the first that isn't killed is the last.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import guarded_nets
import torch

from fedmend.guard import Guard, GuardPolicy

MARKS = (0.2, 3.0, 0.9)


def review_all(history: Path) -> list[dict[str, Any]]:
    """The decisions on three rounds: one accepted, one rejected, one inconclusive."""
    pixels, labels = guarded_nets.images()
    policy = GuardPolicy(detectors=(guarded_nets.DETECTOR,), repair="none", stop_after=2, history_limit=6)
    made = Guard(
        policy,
        model=guarded_nets.Net,
        images=pixels,
        labels=labels,
        history=history,
        seed=7,
        trusted=guarded_nets.net(),
    )
    rounds = enumerate(MARKS, start=(made.last_round or 1))
    numbered = [(number, MARKS[number - 1]) for number, _ in rounds if number <= len(MARKS)]
    return [made.review(guarded_nets.net(mark, seed=number), number).to_json() for number, mark in numbered]


class Torn:
    """A file that is written in two halves."""

    def __init__(self, file: Any, moment: Callable[[], None]) -> None:
        self.file, self.moment = file, moment

    def __enter__(self) -> Torn:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def write(self, content: bytes) -> None:
        self.file.write(content[: len(content) // 2])
        self.file.flush()
        self.moment()
        self.file.write(content[len(content) // 2 :])
        self.moment()


def die_at(last: int) -> None:
    """Patch what scans and what writes files so that this process kills itself at its moment number ``last``."""
    passed = 0
    open_file, replace, unlink = Path.open, Path.replace, Path.unlink
    search = guarded_nets.Marked.__call__

    def moment() -> None:
        nonlocal passed
        if passed == last:
            os.kill(os.getpid(), signal.SIGKILL)
        passed += 1

    def opened(path: Path, mode: str = "r", *rest: Any, **named: Any) -> Any:
        return Torn(open_file(path, mode), moment) if mode == "ab" else open_file(path, mode, *rest, **named)

    def written(path: Path, content: bytes) -> None:
        with Torn(open_file(path, "wb"), moment) as file:
            file.write(content)

    def replaced(path: Path, target: Path) -> Path:
        moment()
        result = replace(path, target)
        moment()
        return result

    def unlinked(path: Path, missing_ok: bool = False) -> None:
        moment()
        unlink(path, missing_ok)

    def searched(self: Any, *arguments: Any) -> Any:
        moment()
        found = search(self, *arguments)
        moment()
        return found

    os.fsync = lambda _: None  # type: ignore[assignment]  # the system lives on, and with it what was written
    Path.open, Path.write_bytes = opened, written  # type: ignore[assignment]
    Path.replace, Path.unlink = replaced, unlinked  # type: ignore[assignment]
    guarded_nets.Marked.__call__ = searched  # type: ignore[method-assign]


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    review_all(folder.parent / "imports")  # what each child would import by itself
    for last in range(1000):
        child = os.fork()
        if child == 0:
            die_at(last)
            review_all(folder / f"{last:03d}")
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        if os.WIFEXITED(status):
            sys.exit(os.WEXITSTATUS(status))
        if os.WTERMSIG(status) != signal.SIGKILL:
            sys.exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
