"""Which number each class has: from folders' names, texts, numbers from 0 or 1, or a list in the model's order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedmend.data.failures import as_data_error
from fedmend.data.limits import check_is_file
from fedmend.errors import DataError

MOST_CLASSES = 100_000

_LONGEST_NAME = 1000
_Array = np.ndarray[Any, Any]


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """The distinct names, sorted as numbers if all are numbers (2 before 10), otherwise as text."""
    distinct = set(names)
    if all(name.isascii() and name.isdigit() and len(name) < 19 for name in distinct):
        return tuple(sorted(distinct, key=lambda name: (int(name), name)))
    return tuple(sorted(distinct))


def read_class_names(path: str | Path) -> tuple[str, ...]:
    """Read a list of class names, one in a line; empty lines and spaces around names don't count.

    Raises:
        DataError: the file can't be read, holds no name, one twice, or one that is too long.
    """
    path = Path(path)
    with as_data_error(str(path), "expected a text file with one class name in each line"):
        check_is_file(path)
        if path.stat().st_size > MOST_CLASSES * _LONGEST_NAME:
            raise DataError(f"{path} is too large for a list of class names")
        text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
    return checked_classes([line.strip() for line in text.split("\n") if line.strip()], str(path))


def checked_classes(names: Sequence[str], where: str) -> tuple[str, ...]:
    """The names of all classes, in the model's order, as a tuple.

    Raises:
        DataError: there is none, one is there twice or is too long, or one isn't text.
    """
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise DataError(f"the class names of {where} must be a sequence of texts; got {names!r:.80}")
    if not names or len(names) > MOST_CLASSES:
        raise DataError(f"{where} must name 1 to {MOST_CLASSES} classes; got {len(names)}")
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise DataError(f"{where} names the class {twice[0]!r:.80} twice; name each once")
    check_names(names, where)
    return tuple(names)


def numbered(
    labels: _Array, names: tuple[str, ...] | None, classes: tuple[str, ...] | None, where: str
) -> tuple[_Array, tuple[str, ...]]:
    """Labels from 0, int64 (N,), and the classes' names.

    Numbers count from 1, rather than 0, if 0 doesn't occur and K does, where there are K names; without names, if 1 to
    the largest all occur. Without names, the classes are called by their numbers.

    Args:
        labels: (N,), whole numbers.
        names: of the source's classes, in order, or None.
        classes: the model's classes in its order, or None for the source's. Names are matched; a source without names
            has them in this order.
        where: the source's name in errors.

    Raises:
        DataError: labels are no whole numbers, out of range, or not among the classes.
    """
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(
            f"labels of {where} must be integers or texts of shape (N,); got {labels.dtype} {labels.shape}"
        )
    if names is not None:
        check_names(names, where)
    if len(labels) == 0:
        raise DataError(f"{where} has no labels; at least one image with its label is needed")
    lowest, highest = int(labels.min()), int(labels.max())
    if not 0 <= lowest <= highest < MOST_CLASSES:
        raise DataError(
            f"labels of {where} must be in [0, {MOST_CLASSES}); got labels from {lowest} to {highest}; drop "
            "unlabelled images (-1) and count classes from 0"
        )
    known = names or classes
    if known is None:
        from_one = lowest == 1 and highest > 1 and len(np.unique(labels)) == highest
        known = tuple(str(label) for label in range(int(from_one), highest + 1))
    else:
        from_one = lowest >= 1 and highest == len(known)
    labels = labels.astype(np.int64) - from_one
    if labels.max() >= len(known):
        raise DataError(
            f"labels of {where} must be in [0, {len(known)}), for {len(known)} class names; got labels from {lowest} "
            f"to {highest}; name every class"
        )
    if names is None or classes is None:
        return labels, known
    return _matched(labels, names, classes, where), classes


def _matched(labels: _Array, names: tuple[str, ...], classes: tuple[str, ...], where: str) -> _Array:
    """Labels that index ``names`` to those that index ``classes``; a name without images may be missing there."""
    places = {name: index for index, name in enumerate(classes)}
    table = np.array([places.get(name, -1) for name in names], dtype=np.int64)
    matched: _Array = table[labels]
    if matched.min(initial=0) < 0:
        missing = [names[index] for index in np.unique(labels[matched < 0])[:3]]
        raise DataError(
            f"{where} has images of {', '.join(f'{name!r:.80}' for name in missing)}, which the list of classes lacks "
            f"({len(classes)} names, first {classes[0]!r:.80}); list every class as the data calls it, in the model's "
            "order"
        )
    return matched


def check_names(names: Sequence[str], where: str) -> None:
    """Refuse more than 100,000 names, and those of more than 1,000 characters.

    Raises:
        DataError: there are such.
    """
    if len(names) > MOST_CLASSES:
        raise DataError(f"{where} has {len(names)} classes; expected at most {MOST_CLASSES}")
    longest = max(map(len, names), default=0)
    if longest > _LONGEST_NAME:
        raise DataError(
            f"a class name of {where} has {longest:,} characters; expected at most {_LONGEST_NAME}"
        )
