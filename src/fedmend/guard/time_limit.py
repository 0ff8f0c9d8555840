"""Work that must end in time: it is asked to stop when it reports progress, and left behind if it doesn't."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from fedmend.errors import FedmendError
from fedmend.progress import Progress
from fedmend.untrusted import LATE, attempt

_T = TypeVar("_T")

GRACE = 2.0
"""Seconds after the limit in which work that reports progress ends by itself."""


class TimeLimitError(FedmendError):
    """The time is over."""


def ending_in_time(call: Callable[[Progress], _T], seconds: float | None, progress: Progress) -> _T:
    """Call ``call`` with a progress callback, and have its result or exception within the limit.

    With a limit, the call runs in a thread. After the limit the progress callback raises, which every search of
    fedmend's own soon calls. Code that doesn't call it is interrupted a little later at its next line of Python, and
    abandoned if it waits in C code. So whatever the call can reach should be a copy.

    Args:
        call: the work.
        seconds: the limit; None: none, and the call runs in this thread.
        progress: told what the work reports.

    Raises:
        TimeLimitError: the time is over. Whatever else the call raised.
    """
    if seconds is None:
        return call(progress)
    deadline = time.monotonic() + seconds

    def watched(stage: str, done: int, total: int) -> None:
        if time.monotonic() >= deadline:
            raise TimeLimitError
        progress(stage, done, total)

    ended: list[_T] = []
    failed: list[Exception] = []

    def outcome() -> None:
        try:
            ended.append(call(watched))
        except Exception as error:
            failed.append(error)

    _, problem = attempt(outcome, seconds + GRACE)
    if problem == LATE:
        raise TimeLimitError
    if problem is not None:  # what would end Python, such as sys.exit()
        raise RuntimeError(problem)
    if failed:
        raise failed[0]
    return ended[0]
