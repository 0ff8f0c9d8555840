"""Reads result files; a damaged one raises a one-line error with advice."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from fedmend.errors import DataError

_T = TypeVar("_T")

_MOST_DIGITS = 18
_LARGEST = 1e100

Pending = Mapping[Path, str | None]
"""Texts that are about to be written to files; None: the file is about to be removed."""

NOTHING: Pending = {}


def read_file(
    path: Path, parse: Callable[[bytes], _T], pending: Pending = NOTHING, advice: str = "write it again"
) -> _T | None:
    """The file's content, or what is about to be written to it, parsed; None if there is no file.

    Raises:
        DataError: the file can't be read, or is damaged; the message ends with ``advice``.
    """
    try:
        if path in pending:
            text = pending[path]
            return None if text is None else parse(text.encode())
        content = path.read_bytes()
        _require_ordinary(content)
        return parse(content)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, error) from error
    except (DataError, ValidationError) as error:
        raise DataError(f"{path} is damaged: {one_line(error)}; {advice}, or remove it") from error


def read_lines(path: Path, adapter: TypeAdapter[_T]) -> tuple[_T, ...]:
    """The records of a file of JSON lines; lines torn by a killed run are skipped.

    Raises:
        DataError: the file can't be read, or holds numbers that no result has.
    """
    records = []
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise _unreadable(path, error) from error
    for line in lines:
        try:
            _require_ordinary(line)
            records.append(adapter.validate_json(line))
        except DataError as error:
            raise DataError(f"{path} is damaged: {error}; remove it, or write it again") from error
        except ValidationError:
            continue
    return tuple(records)


def one_line(error: BaseException) -> str:
    """The first problem only; a DataError's cause may be pydantic's long error."""
    if isinstance(error, DataError) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        return f"{place}: {first['msg']}" if place else first["msg"]
    return " ".join(str(error).split())


def _require_ordinary(content: bytes) -> None:
    """Refuse JSON that can be read and not be shown: huge numbers, and nesting without end.

    Raises:
        DataError: it says what was found. What is no JSON at all is left to the parser.
    """
    try:
        json.loads(content, parse_int=_require_short, parse_float=_require_moderate)
    except RecursionError:
        raise DataError("it is nested too deeply for a result of fedmend") from None
    except ValueError:
        return


def _require_short(digits: str) -> None:
    if len(digits) > _MOST_DIGITS:
        raise DataError(f"it holds a number of {len(digits)} digits; expected at most {_MOST_DIGITS}")


def _require_moderate(number: str) -> None:
    if abs(float(number)) > _LARGEST:
        raise DataError(f"it holds a number above {_LARGEST:g}, which no result of fedmend has")


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(f"can't read {path}: {error.strerror or error}")
