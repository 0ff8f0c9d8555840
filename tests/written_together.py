"""Results of two commands in one folder, and failures while the second ones are written."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

EARLIER = {"a.txt": "old a", "sub/c.txt": "old c", "gone.txt": "old gone", "mine.txt": "mine"}
NEW = {"a.txt": "new a", "b.txt": "new b", "sub/c.txt": "new c", "sub/d.txt": "new d"}
AFTER = {"mine.txt": "mine"} | NEW


class Stopped(BaseException):
    """What a test throws in place of a signal."""


def contents(folder: Path) -> dict[str, str]:
    """Every file, hidden ones too."""
    return {
        str(file.relative_to(folder)): file.read_text()
        for file in folder.rglob("*")
        if file.is_file() or file.is_symlink()
    }


@contextmanager
def failing(stop: int, error: Callable[[], BaseException]) -> Iterator[pytest.MonkeyPatch]:
    """Within, the ``stop``-th file that is moved or removed fails, and no later one."""
    count = 0
    with pytest.MonkeyPatch.context() as patched:
        for name in ("replace", "unlink"):
            original = getattr(Path, name)

            def counted(path: Path, *args: Any, original: Any = original, **named: Any) -> Any:
                nonlocal count
                count += 1
                if count == stop:
                    raise error()
                return original(path, *args, **named)

            patched.setattr(Path, name, counted)
        yield patched
