"""How errors quote a file's content: short and on one line, since it may be crafted to mislead a terminal."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def shown(value: object) -> str:
    """A value from a file as ``repr`` writes it, at most 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def short(value: object) -> str:
    """A text from a file or an error without quotes, at most 80 characters."""
    return shown(str(value))[1:-1] or type(value).__name__


def listed(names: Iterable[str], most: int = 3) -> str:
    """The first names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(shown(name) for name in names[:most]) + more


def unusable(name: str, kind: str) -> str:
    """What is wrong with a tensor of a kind that models here don't have."""
    advice = "save the weights as they were before" if kind == "quantised" else "save it as one"
    return f"{shown(name)} is a tensor {kind}; expected dense real tensors: {advice}"


def kind_of(value: object) -> str:
    """A value's type; of a tensor also its dtype and, where unusual, its layout."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    quality = [str(value.dtype)]
    quality += ["meta"] if value.is_meta else []
    quality += [] if value.layout == torch.strided else [str(value.layout)]
    return f"tensor ({', '.join(quality)})"
