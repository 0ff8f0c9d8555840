"""Tables of settings that can't be changed, so that a checked configuration stays checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, NoReturn, TypeAlias

from pydantic import AfterValidator


class FrozenTable(dict[str, Any]):
    """A deep copy of a table that refuses changes; its lists become tuples. JSON and pickle take it like a dict."""

    def __init__(self, table: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> None:
        super().__init__({key: _frozen(value) for key, value in dict(table).items()})

    def _refuse(self, *args: object, **values: object) -> NoReturn:
        raise TypeError("the tables of checked settings can't be changed; make new settings instead")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[type[FrozenTable], tuple[dict[str, Any]]]:
        return FrozenTable, (plain(self),)

    def __deepcopy__(self, memo: object) -> FrozenTable:
        return self


Table: TypeAlias = Annotated[dict[str, Any], AfterValidator(FrozenTable)]
"""A ``kind``, and the settings of what it names."""


def plain(table: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of dicts and lists, which can be changed."""
    return {key: _plain(value) for key, value in table.items()}


def _frozen(value: Any) -> Any:
    if isinstance(value, Mapping):
        return FrozenTable(value)
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return plain(value)
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
