"""Sizes of memory on the command line."""

from __future__ import annotations

import re
from typing import Any

import click

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_FORM = re.compile(r"(\d+(?:\.\d+)?) ?([kmgt]i?)?b?", re.IGNORECASE)


class ByteCount(click.ParamType):  # type: ignore[type-arg]  # generic in some releases only
    """A number of bytes with a unit: 4GiB, 500MB, 1.5g."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Text to bytes, an int as it is."""
        if isinstance(value, int):
            return value
        form = _FORM.fullmatch(value.strip())
        count = 0 if form is None else int(float(form[1]) * (_UNITS | _BINARY)[(form[2] or "").lower()])
        if not 0 < count < 2**63:
            self.fail(f"expected a size such as 4GiB or 500MB; got {value!r}", param, ctx)
        return count
