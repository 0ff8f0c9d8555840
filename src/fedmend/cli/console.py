"""What the command line prints, and the code it ends with: progress, and one line per error."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click

from fedmend.cli.progress_display import PeriodicLines, StageCounter, bars
from fedmend.errors import FedmendError, is_out_of_memory
from fedmend.progress import Progress
from fedmend.terminal_text import printable

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
EXIT_BUG = 70


def show(text: str, *, err: bool = False) -> None:
    """Print lines on stdout or stderr; what could rewrite a terminal is escaped (see :func:`printable`)."""
    click.echo("\n".join(printable(line) for line in text.split("\n")), err=err)  # noqa: TID251


class InterruptError(Exception):
    """Ctrl-C, as an exception that click lets through."""


class TerminatedError(BaseException):
    """A signal that asks the process to end, as an exception, so that what is half written is removed.

    Attributes:
        number: the signal's.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def progress_bars(stages: int = 1) -> Iterator[Progress]:
    """A progress callback that draws one bar per stage on stderr; if that is no terminal, it writes a line at times.

    Args:
        stages: how many there are at most, as far as is known.
    """
    if not sys.stderr.isatty():
        yield StageCounter(stages, PeriodicLines()).report
        return
    with bars() as display:
        yield StageCounter(stages, display).report


def run(command: Callable[[], object]) -> int:
    """Run a command and return its exit code; print an error as one line on stderr.

    The code is 2 for bad input and for code of the user's own that fails or ends the process, 130 for Ctrl-C, 143 for
    SIGTERM, and 70 with a traceback for a bug of ours: never 1, which means "backdoored".
    """
    try:
        with _termination_raised():
            code = command()
            _flush()
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except (InterruptError, KeyboardInterrupt, click.Abort):
        return _fail("interrupted; no partial files were left", EXIT_INTERRUPTED)
    except TerminatedError as stop:
        return _fail("asked to end; no partial files were left", 128 + stop.number)
    except SystemExit as stop:
        given = stop.code if type(stop.code) is int else ""
        return _fail(
            f"the code of the model, or other code of your own, called sys.exit({given}); remove that call",
            EXIT_BAD_INPUT,
        )
    except click.ClickException as error:
        return _fail(error.format_message(), EXIT_BAD_INPUT)
    except FedmendError as error:
        return _fail(str(error), EXIT_BAD_INPUT)
    except BrokenPipeError:
        _abandon_stdout()
        return EXIT_BAD_INPUT
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            return _bug()
        if error.filename is None:
            _abandon_stdout()
        return _fail(f"{error.strerror}: {error.filename or 'standard output'}", EXIT_BAD_INPUT)
    except Exception as error:
        if is_out_of_memory(error):
            return _fail(
                "out of memory; try fewer images, a smaller batch or, in a scan, --memory", EXIT_BAD_INPUT
            )
        if isinstance(error, RuntimeError) and "start new thread" in str(error):
            return _fail(
                "the system starts no further thread; allow more processes (ulimit -u)", EXIT_BAD_INPUT
            )
        return _bug()
    return code if isinstance(code, int) else 0


@contextmanager
def _termination_raised() -> Iterator[None]:
    """Within, SIGTERM and SIGHUP raise :class:`TerminatedError`, once; one that is ignored stays so."""

    def stop(number: int, _frame: Any) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise TerminatedError(number)

    wanted = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = [each for each in wanted if signal.getsignal(each) == signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        before = []
    for each in before:
        signal.signal(each, stop)
    try:
        yield
    finally:
        for each in before:
            signal.signal(each, signal.SIG_DFL)


def _flush() -> None:
    """Have errors of a full or closed standard output now, and not when Python ends."""
    if sys.stdout is not None:
        sys.stdout.flush()


def _abandon_stdout() -> None:
    """Discard stdout's buffer, or Python would report an error at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, code: int) -> int:
    with suppress(Exception):  # stderr may be full or closed
        show(f"fedmend: {' '.join(message.split())}", err=True)
    return code


def _bug() -> int:
    with suppress(Exception):
        show(traceback.format_exc().rstrip(), err=True)
    return _fail(
        "this is a bug in fedmend (or in your own model, if the last lines above are its code)", EXIT_BUG
    )
