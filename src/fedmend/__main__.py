"""The process of the command line: ``fedmend``, or ``python -m fedmend``."""

from __future__ import annotations

import atexit
import ctypes
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

EXIT_BUG = 70
"""As in :mod:`fedmend.cli.console`, which is not imported yet when importing it fails."""


def main() -> NoReturn:
    """Run the command line and exit.

    Its exit code is the process's, whatever else ends the process: code 1 means that a model is backdoored, and 0 that
    it is clean. If a library or the code of a model ends the process, past Python too, or the command line can't be
    imported, the code is 70.
    """
    code = EXIT_BUG
    _leave_only_with(lambda: code)
    try:
        from fedmend.cli import main as command_line

        command_line()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else EXIT_BUG
    except BaseException:
        with suppress(Exception):  # stderr may be full
            traceback.print_exc()
    sys.exit(code)


def _leave_only_with(code: Callable[[], int]) -> None:
    """Have this process exit with ``code()`` when Python ends, and with 70 if anything else ends it."""
    own, real = os.getpid(), os._exit

    def refuse(status: int) -> NoReturn:
        real(EXIT_BUG if os.getpid() == own else status)

    def leave() -> None:
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        real(code())

    atexit.register(leave)  # the first to be registered is the last to be called
    os._exit = refuse
    with suppress(
        OSError, AttributeError, TypeError
    ):  # exit() in C, which OpenMP calls if no thread can start
        library = ctypes.CDLL(None)
        library["__cxa_atexit"](
            ctypes.cast(library["_exit"], ctypes.c_void_p), ctypes.c_void_p(EXIT_BUG), None
        )


if __name__ == "__main__":
    main()
