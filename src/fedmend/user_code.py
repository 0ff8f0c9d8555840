"""A user's own code by name: ``package.module:factory``, looked for in the current folder too."""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.machinery import ModuleSpec, PathFinder
from types import FrameType, FunctionType
from typing import Any

from fedmend.errors import ConfigError, FedmendError, is_out_of_memory

_LISTED = 8
_ABSENT = object()


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
    with current_folder_importable(name):
        found = _module(module_name, name, what, error)
        for part in path.split("."):
            with failures_as(error, f"looking for {path} in {module_name} failed"):
                inner = getattr(found, part, _ABSENT)
            if inner is _ABSENT:
                raise error(
                    f"{_with_file(module_name)} has no {path!r}, needed for the {what} {name!r}"
                    + _hint(module_name, part, found)
                )
            found = inner
    if not callable(found):
        raise error(
            f"{name!r} is a {type(found).__name__}; expected a function or class that makes the {what}"
        )
    return found  # type: ignore[no-any-return]


@contextmanager
def current_folder_importable(name: str) -> Iterator[None]:
    """Within, the module that ``package.module:factory`` names can be in the current folder, and import from there.

    Nothing else is looked for there (see :class:`FolderFinder`).
    """
    finder = FolderFinder(os.getcwd(), {name.partition(":")[0].partition(".")[0]})  # noqa: PTH109 - as in __file__
    sys.meta_path.insert(0, finder)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        with suppress(ValueError):
            sys.meta_path.remove(finder)


class FolderFinder:
    """Finds a folder's modules for those who may have them: an entry of ``sys.meta_path``.

    A file that happens to be called like a module that fedmend, torch or Python imports must not run. So only the
    modules in ``names`` are found, and what a module of the folder imports itself; and nothing that is called like a
    module of Python's own.

    Args:
        folder: its path, as in a module's ``__file__``.
        names: of modules or packages.
    """

    def __init__(self, folder: str, names: Collection[str]) -> None:
        self.folder, self.names = folder, frozenset(names)

    def find_spec(self, name: str, path: Sequence[str] | None, target: Any = None) -> ModuleSpec | None:
        """See :class:`importlib.abc.MetaPathFinder`; a package's own modules are left to Python."""
        if path is not None or name in sys.stdlib_module_names:
            return None
        if name not in self.names and not _is_in(self.folder, _importing()):
            return None
        return PathFinder.find_spec(name, [self.folder], target)


def modules_in(folder: str) -> tuple[str, ...]:
    """The names of the modules and packages that were imported from a folder."""
    return tuple(
        name for name, module in list(sys.modules.items()) if "." not in name and _is_in(folder, module)
    )


def _is_in(folder: str, module: object) -> bool:
    """Whether a module is a file of the folder, or a package that is a folder in it."""
    said = getattr(module, "__dict__", {})  # not by attribute, which a module may answer by code of its own
    paths = [*(said.get("__path__") or ()), said.get("__file__")]
    return any(isinstance(path, str) and os.path.dirname(path) == folder for path in paths)  # noqa: PTH120


def _importing() -> object:
    """The module or package whose code imports something just now."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and (
        frame.f_code.co_filename == __file__ or frame.f_code.co_filename.startswith("<frozen importlib")
    ):
        frame = frame.f_back
    name = "" if frame is None else str(frame.f_globals.get("__name__"))
    return sys.modules.get(name.partition(".")[0])


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
        if isinstance(error, FedmendError) or is_out_of_memory(error) or not is_users(method):
            raise
        raise ConfigError(
            f"the {what} {name_of(method)} failed{_place(error, method)}: {in_one_line(error)}"
        ) from error


@contextmanager
def failures_as(error: type[FedmendError], said: str, hint: str = "") -> Iterator[None]:
    """Within, whatever a user's own code raises becomes one line, even what would end Python, such as ``sys.exit(0)``.

    A :class:`FedmendError` comes out as it is, like running out of memory and a Ctrl-C.

    Args:
        error: what to raise.
        said: what failed, in words. hint: what to try.

    Raises:
        FedmendError: of the kind ``error``.
    """
    with ctrl_c_noted() as pressed:
        try:
            yield
        except BaseException as failed:
            if isinstance(failed, FedmendError) or is_out_of_memory(failed):
                raise
            if pressed and isinstance(failed, KeyboardInterrupt):
                raise
            raise error(f"{said}: {in_one_line(failed)}" + (f"; {hint}" if hint else "")) from failed


@contextmanager
def ctrl_c_noted() -> Iterator[list[int]]:
    """Within, the list is empty until a person presses Ctrl-C; a program can raise ``KeyboardInterrupt``, too.

    Where somebody else handles Ctrl-C, nobody can tell, and the list isn't empty.
    """
    pressed: list[int] = []
    here = threading.current_thread() is threading.main_thread()
    if not here or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield [signal.SIGINT]
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        pressed.append(number)
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def accepts(factory: Callable[..., Any], name: str) -> bool:
    """Whether a function or class can be called with this argument by keyword."""
    try:
        parameters = inspect.signature(factory).parameters
    except Exception:
        return True  # written in C, or with a signature of its own that fails: it doesn't tell
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
    with failures_as(error, f"importing {module_name} failed", "it must import cleanly"):
        try:
            return importlib.import_module(module_name)
        except ModuleNotFoundError as missing:
            if missing.name is None or not f"{module_name}.".startswith(f"{missing.name}."):
                raise
            raise error(
                f"there is no module {missing.name!r} for the {what} {name!r}, neither in the current folder nor "
                "installed; run from the folder that holds it, or install its package"
            ) from missing


def _module_of(method: object) -> str:
    return str(getattr(method if hasattr(method, "__qualname__") else type(method), "__module__", ""))


def _place(error: BaseException, method: object) -> str:
    """The innermost place in the method's own file, else the file: " at mine.py:7", " (mine.py)" or nothing."""
    file = getattr(sys.modules.get(_module_of(method)), "__file__", None)
    if file is None:
        return ""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f" at {file}:{lines[-1]}" if lines else f" ({file})"


def _with_file(module_name: str) -> str:
    file = getattr(sys.modules.get(module_name), "__dict__", {}).get("__file__")
    return f"{module_name} (imported from {file})" if file else f"{module_name} (a part of Python itself)"


def _hint(module_name: str, part: str, found: Any) -> str:
    """What a name that isn't there may have been meant to be: the nearest, or the functions and classes there are."""
    near = difflib.get_close_matches(part, list(getattr(found, "__dict__", ())), n=1)
    if near:
        return f"; did you mean {near[0]}?"
    names = [
        name
        for name, value in getattr(sys.modules.get(module_name), "__dict__", {}).items()
        if isinstance(value, type | FunctionType)
        and not name.startswith("_")
        and value.__module__ == module_name
    ]
    return f"; it has {', '.join(names[:_LISTED])}" if names else "; it has no function or class of its own"
