"""A user's own code by name: ``package.module:factory``, looked for in the current folder too."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fedmend.errors import FedmendError


def is_own(name: str) -> bool:
    """Whether a name is written like one of a user's own, with a colon."""
    return ":" in name


def load_factory(name: str, what: str, error: type[FedmendError]) -> Callable[..., Any]:
    """The function or class that ``package.module:factory`` names.

    Call it within :func:`current_folder_importable` if it may import modules of its own when it runs.

    Args:
        name: as the user wrote it.
        what: what it is for, in messages: "architecture", "trigger", "aggregation rule", ...
        error: what to raise.

    Raises:
        FedmendError: of the kind ``error``: the name isn't written so, the module can't be imported, or it has no such
            function or class.
    """
    own = "one of your own is written package.module:factory, for example mine:make for make() in mine.py"
    module_name, _, path = name.partition(":")
    words = [part for text in (module_name, path) for part in text.split(".")]
    if not all(part.isidentifier() for part in words) or module_name.endswith(".py"):
        raise error(f"can't read the {what} {name!r}: {own}; no folders, no .py")
    with current_folder_importable():
        found = _module(module_name, name, what, error)
    for part in path.split("."):
        if not hasattr(found, part):
            near = difflib.get_close_matches(part, dir(found), n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise error(f"{module_name} has no {path!r}, needed for the {what} {name!r}{hint}")
        found = getattr(found, part)
    if not callable(found):
        raise error(
            f"{name!r} is a {type(found).__name__}; expected a function or class that makes the {what}"
        )
    return found  # type: ignore[no-any-return]


@contextmanager
def current_folder_importable() -> Iterator[None]:
    """Within, modules in the current folder can be imported."""
    folder = os.getcwd()  # noqa: PTH109 - sys.path holds strings
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)


def in_one_line(error: BaseException) -> str:
    """An error's kind and message in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _module(module_name: str, name: str, what: str, error: type[FedmendError]) -> Any:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as missing:
        if missing.name is None or not f"{module_name}.".startswith(f"{missing.name}."):
            raise error(f"importing {module_name} failed: {in_one_line(missing)}") from missing
        raise error(
            f"there is no module {missing.name!r} for the {what} {name!r}, neither in the current folder nor "
            "installed; run from the folder that holds it, or install its package"
        ) from missing
    except (Exception, SystemExit) as failed:
        raise error(
            f"importing {module_name} failed: {in_one_line(failed)}; it must import cleanly"
        ) from failed
