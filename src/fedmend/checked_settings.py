"""Settings of a method: frozen dataclasses whose values are checked, in Python as in TOML."""

from __future__ import annotations

import difflib
from dataclasses import field, fields
from functools import wraps
from typing import Annotated, Any, TypeVar, dataclass_transform

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from fedmend.errors import ConfigError

# Strict: "3" and true are not numbers, and 1 is not a flag.
Count = Annotated[int, Field(ge=1, lt=2**31, strict=True)]
Natural = Annotated[int, Field(ge=0, lt=2**63, strict=True)]
Bytes = Annotated[int, Field(ge=1, lt=2**63, strict=True)]
Positive = Annotated[float, Field(gt=0, strict=True, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, strict=True, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1, strict=True)]
PositiveFraction = Annotated[float, Field(gt=0, le=1, strict=True)]
Flag = Annotated[bool, Field(strict=True)]

_T = TypeVar("_T")
_LONGEST_SHOWN = 200
_UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden")


@dataclass_transform(frozen_default=True, field_specifiers=(field, Field))
def settings(cls: type[_T]) -> type[_T]:
    """Make a class of annotated fields a frozen dataclass whose values pydantic checks.

    A value of the wrong type or out of range, or an unknown name, raises :class:`ConfigError`. Checks across several
    fields belong in ``__post_init__``, which raises :class:`ConfigError` itself.
    """
    made = dataclass(cls, frozen=True, config=ConfigDict(extra="forbid", arbitrary_types_allowed=True))
    check = made.__init__

    @wraps(check)
    def checked(self: Any, *args: Any, **values: Any) -> None:
        try:
            check(self, *args, **values)
        except ValidationError as error:
            problems = [_by_name(dict(problem), made) for problem in error.errors()]
            explained = "; ".join(explain(problem, made) for problem in problems)
            raise ConfigError(f"{made.__name__}: {explained}") from error

    made.__init__ = checked  # type: ignore[method-assign]
    return made  # type: ignore[return-value]


def require(value: object, kind: Any, what: str) -> None:
    """Check one value of a class that is no :func:`settings`.

    Args:
        value: what came.
        kind: one of this module's types, such as ``Count``.
        what: what it is, in messages.

    Raises:
        ConfigError: the value is of another type or out of range.
    """
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        raise ConfigError("; ".join(explain(dict(each), dict, what) for each in error.errors())) from error


def explain(problem: dict[str, Any], table: type, where: str | None = None) -> str:
    """One of pydantic's problems as a one-line message: what was expected and what came.

    Args:
        problem: an entry of ``ValidationError.errors()``.
        table: the settings class of the key; its closest name is suggested for an unknown key.
        where: the key's name in the message; by default its path.
    """
    keys = [str(part) for part in problem["loc"]] or ["settings"]
    where = where or ".".join(keys)
    if problem["type"] == "dataclass_type":
        return f"{where}: expected a table of settings; got {shown(problem['input'])}"
    if problem["type"] in ("missing", "missing_argument"):
        return f"{where}: a value is required"
    if problem["type"] not in _UNKNOWN:
        return f"{where}: {problem['msg'][:1].lower()}{problem['msg'][1:]}; got {shown(problem['input'])}"
    return unknown(keys[-1], where, table)


def unknown(key: str, where: str, table: type) -> str:
    """A message for a key that a settings class doesn't have; it names the closest one.

    Args:
        key: the key.
        where: the key's name in the message.
        table: the settings class.
    """
    known = names_of(table)
    nearest = difflib.get_close_matches(key, known, n=1)
    if nearest:
        return f"unknown key {where}: did you mean {nearest[0]}?"
    return f"unknown key {where}: expected one of {', '.join(known) or 'none'}"


def shown(value: object) -> str:
    """A value in an error message, cut short."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits, or lists within lists
        return f"a {type(value).__name__} too large to show"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _by_name(problem: dict[str, Any], table: type) -> dict[str, Any]:
    """The problem with a positional argument's number replaced by its name."""
    first, *rest = problem["loc"] or ("settings",)
    names = names_of(table)
    return problem | {
        "loc": (names[first] if isinstance(first, int) and first < len(names) else first, *rest)
    }


def names_of(table: type) -> list[str]:
    """The names of a class's settings, in order."""
    return [each.name for each in fields(table)]
