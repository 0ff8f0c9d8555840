"""A user's own code by name: ``package.module:factory``, looked for in the current folder too."""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fedmend.errors import ConfigError, FedmendError

_LISTED = 8


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
            hint = hint or _listed(module_name)
            raise error(f"{_with_file(module_name)} has no {path!r}, needed for the {what} {name!r}{hint}")
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


def is_users(method: object) -> bool:
    """Whether a function, or an object's class, is not fedmend's own."""
    return _module_of(method).partition(".")[0] != "fedmend"


def name_of(method: object) -> str:
    """A function's name, or that of an object's class."""
    return str(getattr(method, "__qualname__", type(method).__qualname__))


def tensor_in_words(value: Any) -> str:
    """What came in place of a tensor, or the tensor's type, shape and, off the CPU, device."""
    if not str(getattr(value, "dtype", "")).startswith("torch."):
        return f"a {type(value).__name__}"
    device = str(value.device)
    return f"{value.dtype} {tuple(value.shape)}" + ("" if device == "cpu" else f" on {device}")


@contextmanager
def failures_named(what: str, method: object) -> Iterator[None]:
    """Within, an exception of a user's own method says which method failed and where; fedmend's own are left alone.

    Args:
        what: the method's kind, in messages: "detector", "update step", ...
        method: what is called within: a function, or an object of the user's own class.

    Raises:
        ConfigError: the method raised something else than a :class:`FedmendError`, which comes out as it is, like
            running out of memory.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        if isinstance(error, (FedmendError, MemoryError, *_out_of_memory())) or not is_users(method):
            raise
        raise ConfigError(
            f"the {what} {name_of(method)} failed{_place(error, method)}: {in_one_line(error)}"
        ) from error


def accepts(factory: Callable[..., Any], name: str) -> bool:
    """Whether a function or class can be called with this argument by keyword."""
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return True  # written in C: it doesn't tell
    by_keyword = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return any(
        parameter.kind is inspect.Parameter.VAR_KEYWORD
        or (parameter.name == name and parameter.kind in by_keyword)
        for parameter in parameters.values()
    )


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


def _module_of(method: object) -> str:
    return str(getattr(method if hasattr(method, "__qualname__") else type(method), "__module__", ""))


def _out_of_memory() -> tuple[type[Exception], ...]:
    torch = sys.modules.get(
        "torch"
    )  # which this module doesn't import, since the command line starts quickly
    return () if torch is None else (torch.OutOfMemoryError,)


def _place(error: BaseException, method: object) -> str:
    """The innermost place in the method's own file, else the file: " at mine.py:7", " (mine.py)" or nothing."""
    file = getattr(sys.modules.get(_module_of(method)), "__file__", None)
    if file is None:
        return ""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f" at {file}:{lines[-1]}" if lines else f" ({file})"


def _with_file(module_name: str) -> str:
    file = getattr(sys.modules[module_name], "__file__", None)
    return f"{module_name} (imported from {file})" if file else f"{module_name} (a part of Python itself)"


def _listed(module_name: str) -> str:
    """The functions and classes that a module defines, as a hint."""
    module = sys.modules[module_name]
    names = [
        name
        for name, value in vars(module).items()
        if callable(value) and not name.startswith("_") and getattr(value, "__module__", None) == module_name
    ]
    return f"; it has {', '.join(names[:_LISTED])}" if names else "; it has no function or class of its own"
