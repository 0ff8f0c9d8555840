"""Progress of long work, reported through a callback."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called as ``progress(stage, done, total)`` with ``0 <= done <= total``; stages follow one another."""


def silent(stage: str, done: int, total: int) -> None:
    """Report nothing (the default)."""
