"""Run a guarded federation whose server dies, or whose disk is full, at a given moment; for ``test_killed_servers.py``.

    python killed_server.py FOLDER MOMENTS

A moment is a file opened for writing or renamed, or a scan. First the federation runs to its end and its moments are
counted. Then it runs as often as given, killed at another moment each time, and half of the times on a full disk, and
is started again until it has as many rounds. It prints one line of JSON for each run.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from flwr.app import Context, Message
from flwr.serverapp.strategy import FedAvgM

sys.path.insert(0, str(Path(__file__).parent))

from stand_ins import LocalGrid, MarkedNet, adding, arrays_of, dark_and_bright

from fedmend.errors import FedmendError
from fedmend.guard import Guard, GuardPolicy, digest
from fedmend.integrations.flower import GuardedStrategy

ROUNDS, POISONED = 4, 3
DIED, FAILED = 9, 70


def federate(folder: Path) -> None:
    """Run what is missing of four rounds; the third is poisoned."""
    honest, malicious = adding(1.0, name="mark"), adding(1000.0, name="mark")
    images, labels = dark_and_bright()
    policy = GuardPolicy(detectors=({"kind": "watching_detector:make"},), warm_up=1, repair={"kind": "none"})
    guard = Guard(policy, model=MarkedNet, images=images, labels=labels, history=folder, seed=1)
    done = guard.last_round or 0

    def app(message: Message, context: Context) -> Message:
        poisoned = done + message.content["config"]["server-round"] == POISONED
        return (malicious if poisoned else honest)(message, context)

    strategy = GuardedStrategy(FedAvgM(server_momentum=0.5), guard)
    result = strategy.start(LocalGrid(app), arrays_of(MarkedNet()), ROUNDS - done)
    released = guard.released()
    assert released is not None
    assert digest(released) == digest(result.arrays.to_torch_state_dict())


def watch(at: int | None, happens: Callable[[], None]) -> list[int]:
    """Count the moments from here on, and let something happen at one of them."""
    count = [0]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        writing = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wxa")
        if writing or event in ("os.rename", "test.scan"):
            count[0] += 1
            if count[0] == at:
                happens()

    sys.addaudithook(hook)
    return count


def in_a_child(work: Callable[[], int]) -> int:
    """Its exit code."""
    child = os.fork()
    if child == 0:
        code = FAILED
        try:
            code = work()
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def die() -> None:
    os._exit(DIED)


def fill_the_disk() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def run(folder: Path, at: int | None, happens: Callable[[], None], counted: Path | None = None) -> int:
    def work() -> int:
        moments = watch(at, happens)
        try:
            federate(folder)
        except FedmendError as error:
            print(error, file=sys.stderr)
            return DIED if "No space left" in str(error) else FAILED
        if counted is not None:
            counted.write_text(str(moments[0]), encoding="utf-8")
        return 0

    return in_a_child(work)


def main() -> None:
    folder, times = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    os.chdir(Path(__file__).parent)
    counted = folder / "moments"
    folder.mkdir(exist_ok=True)
    assert run(folder / "whole", None, die, counted) == 0
    moments = int(counted.read_text(encoding="utf-8"))
    for number in range(times):
        at = 1 + number * moments // times
        happens = fill_the_disk if number % 2 else die
        history = folder / f"killed-{number}"
        first = run(history, at, happens)
        second = run(history, None, die)
        print(
            json.dumps(
                {
                    "at": at,
                    "of": moments,
                    "first": first,
                    "second": second,
                    "what": happens.__name__,
                    "folder": str(history),
                }
            )
        )


if __name__ == "__main__":
    main()
