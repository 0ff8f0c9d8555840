"""What the command line prints: progress bars with the time left, and one line per error."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import click

from fedmend.errors import FedmendError
from fedmend.progress import Progress, silent
from fedmend.terminal_text import printable

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
EXIT_BUG = 70


def show(text: str, *, err: bool = False) -> None:
    """Print lines on stdout or stderr; what could rewrite a terminal is escaped (see :func:`printable`)."""
    click.echo("\n".join(printable(line) for line in text.split("\n")), err=err)  # noqa: TID251


class InterruptError(Exception):
    """Ctrl-C, as an exception that click lets through."""


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """A progress callback that draws one bar per stage on stderr; silent if stderr is no terminal."""
    if not sys.stderr.isatty():
        yield silent
        return
    # Import rich only for a terminal, and torch never, so that the command line starts quickly.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("time left"),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield report


def run(command: Callable[[], object]) -> int:
    """Run a command and return its exit code; print an error as one line on stderr.

    The code is 2 for bad input and for a method of the user's own that fails, 130 for Ctrl-C, and 70 with a traceback
    for a bug of ours: never 1, which means "backdoored".
    """
    try:
        code = command()
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except (InterruptError, KeyboardInterrupt, click.Abort):
        return _fail("interrupted; no partial files were left", EXIT_INTERRUPTED)
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
        if _out_of_memory(error):
            return _fail("out of memory; try fewer images or a smaller batch", EXIT_BAD_INPUT)
        return _bug()
    return code if isinstance(code, int) else 0


def _out_of_memory(error: Exception) -> bool:
    torch = sys.modules.get("torch")  # only some commands import it
    return isinstance(error, (MemoryError, getattr(torch, "OutOfMemoryError", MemoryError)))


def _abandon_stdout() -> None:
    """Discard stdout's buffer, or Python would report an error at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, code: int) -> int:
    show(f"fedmend: {' '.join(message.split())}", err=True)
    return code


def _bug() -> int:
    show(traceback.format_exc().rstrip(), err=True)
    return _fail(
        "this is a bug in fedmend (or in your own model, if the last lines above are its code)", EXIT_BUG
    )
