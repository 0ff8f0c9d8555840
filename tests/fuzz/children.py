"""Runs commands in child processes, and judges how they end."""

from __future__ import annotations

import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hostile_models import CANARY

LARGEST_MIB, LONGEST_SECONDS = 1024, 20
_KILLED_AFTER = 90
_BEYOND_MIB = 4096  # so that a bomb takes not all of the machine
_CODES = (0, 1, 2, 3, 4, 5)
_LONGEST_LINE = 2000


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes:
        code: the exit code; negative: the signal that ended the process.
        out, err: what it printed.
        mib: the most memory that the process took, Python and torch included.
        seconds: of the processor, or of the clock if it had to be killed.
        ran: code that a file held, as far as it was noticed.
    """

    code: int
    out: str
    err: str
    mib: float
    seconds: float
    ran: tuple[str, ...]


def faults(outcome: Outcome) -> Iterator[str]:
    """What is wrong with an outcome, whatever the file was."""
    text = outcome.out + outcome.err
    if outcome.ran:
        yield f"code was run: {', '.join(outcome.ran)}"
    if outcome.code not in _CODES:
        yield f"exit code {outcome.code}"
    if "Traceback" in text:
        yield "a traceback"
    if outcome.mib > LARGEST_MIB:
        yield f"{outcome.mib:.0f} MiB"
    if outcome.seconds > LONGEST_SECONDS:
        yield f"{outcome.seconds:.0f} s"
    if not all(line.isprintable() for line in text.split("\n")):
        yield "raw control characters"
    errors = [line for line in outcome.err.splitlines() if line.startswith("fedmend: ")]
    if outcome.code == 2 and (len(errors) != 1 or len(errors[0]) > _LONGEST_LINE):
        yield "not one line of error"


def run_child(work: Callable[[], Any], folder: Path) -> Outcome:
    """Call ``work``, which exits as a command does, in a copy of this process that works in ``folder``."""
    out, err, seen = (folder.parent / f"{folder.name}.{name}" for name in ("out", "err", "seen"))
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        _become(work, folder, (out, err, seen))
    watch = os.pidfd_open(child)
    ended, _, _ = select.select([watch], [], [], _KILLED_AFTER)
    os.close(watch)
    if not ended:
        os.kill(child, signal.SIGKILL)
    _, status, usage = os.wait4(child, 0)
    elapsed = time.monotonic() - started
    ran = [
        *seen.read_text(encoding="utf-8").splitlines(),
        *(str(path) for path in folder.rglob(f"*{CANARY}*")),
    ]
    return Outcome(
        os.waitstatus_to_exitcode(status),
        out.read_text(encoding="utf-8", errors="surrogateescape"),
        err.read_text(encoding="utf-8", errors="surrogateescape"),
        usage.ru_maxrss / 1024,
        usage.ru_utime + usage.ru_stime if ended else elapsed,
        tuple(ran),
    )


def _become(work: Callable[[], Any], folder: Path, files: tuple[Path, Path, Path]) -> None:
    code = 70
    try:
        descriptors = [os.open(file, os.O_CREAT | os.O_TRUNC | os.O_WRONLY) for file in files]
        os.dup2(descriptors[0], 1)
        os.dup2(descriptors[1], 2)
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False, buffering=1)  # noqa: SIM115
        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
        limit = pages * resource.getpagesize() + _BEYOND_MIB * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.chdir(folder)
        _note_unpickling(descriptors[2])
        work()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 70
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def _note_unpickling(descriptor: int) -> None:
    """Note every name that a pickle imports, and every command of the system."""

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event in ("pickle.find_class", "os.system", "os.exec", "os.posix_spawn"):
            os.write(descriptor, f"{event} {args!r}\n".encode("utf-8", "replace"))

    sys.addaudithook(hook)
