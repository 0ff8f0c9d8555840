"""Turns other libraries' errors on damaged data into a DataError."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fedmend.errors import DataError


@contextmanager
def as_data_error(what: str, advice: str) -> Iterator[None]:
    """Turn any error raised while reading ``what`` into a one-line DataError that ends with ``advice``."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # decoders raise nearly anything on damaged files
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise DataError(f"can't read {what}: {reason}; {advice}") from error
