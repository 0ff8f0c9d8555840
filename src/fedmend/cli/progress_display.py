"""How far long work is: bars on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Protocol

LINE_SECONDS = 30.0
"""Without a terminal, the time between two lines."""


class Display(Protocol):
    """Shows one stage after another."""

    def begin(self, title: str, total: int) -> None:
        """Show a new stage."""

    def update(self, done: int, total: int) -> None:
        """Show how far the newest stage is."""


@dataclass
class StageCounter:
    """Tells stages apart and numbers them; a stage never goes backwards.

    Attributes:
        stages: how many there are at most, as far as is known.
        display: shows them.
    """

    stages: int
    display: Display
    _name: str | None = None
    _number: int = 0
    _done: int = 0
    _complete: bool = False

    def report(self, stage: str, done: int, total: int) -> None:
        """See :data:`fedmend.progress.Progress`. A stage of the same name after a complete one is another."""
        if stage != self._name or (self._complete and done < self._done):
            self._name, self._number, self._done = stage, self._number + 1, 0
            most = max(self.stages, self._number)
            of = f"stage {self._number} of at most {most}: " if most > 1 else ""
            self.display.begin(f"{of}{stage}", total)
        self._done = max(self._done, done)
        self._complete = self._done >= total
        self.display.update(self._done, total)


@dataclass
class PeriodicLines:
    """Writes a line on stderr every half a minute."""

    _began: float = field(default_factory=lambda: time.monotonic())
    _last: float = field(default_factory=lambda: time.monotonic())
    _title: str = ""

    def begin(self, title: str, total: int) -> None:
        """See :class:`Display`."""
        self._title = title

    def update(self, done: int, total: int) -> None:
        """See :class:`Display`."""
        now = time.monotonic()
        if now - self._last >= LINE_SECONDS:
            self._last = now
            with suppress(OSError, ValueError, AttributeError):  # stderr is full, or closed
                sys.stderr.write(
                    f"fedmend: {self._title}: {done} of {total} after {now - self._began:.0f} s\n"
                )
                sys.stderr.flush()


@contextmanager
def bars() -> Iterator[Display]:
    """Bars with the time left, one per stage, on a terminal."""
    # Import rich only for a terminal, and torch never, so that the command line starts quickly.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("time left"),
        TimeRemainingColumn(),
    )

    class Bars:
        def __init__(self, drawn: Progress) -> None:
            self.drawn, self.newest = drawn, TaskID(0)

        def begin(self, title: str, total: int) -> None:
            self.newest = self.drawn.add_task(title, total=total)

        def update(self, done: int, total: int) -> None:
            self.drawn.update(self.newest, completed=done, total=total)

    with Progress(*columns, console=Console(stderr=True), transient=True) as drawn:
        yield Bars(drawn)
