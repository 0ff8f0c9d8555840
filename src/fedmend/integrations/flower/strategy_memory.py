"""What a strategy remembers from round to round, so that a rejected round leaves no trace in it.

FedAvgM, FedAdam, FedYogi and FedAdagrad keep moments, and some strategies the last global arrays; after a rollback they
would go on from what the rejected round made of them. A strategy's memory is every attribute that holds plain data:
numbers, text, NumPy arrays, tensors, Flower's records, and containers of them. Everything else, such as a client
manager, a callback or a privacy accountant, isn't touched: privacy that was spent stays spent.
"""

from __future__ import annotations

from collections import deque
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord
from flwr.serverapp.strategy import Strategy
from torch import Tensor

_PLAIN = (
    type(None),
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    np.ndarray,
    np.generic,
    Tensor,
    Array,
    ArrayRecord,
    ConfigRecord,
    MetricRecord,
)
_GLOBAL_ARRAYS = "current_arrays"  # Flower's name for a strategy's copy of the global model


@dataclass(frozen=True, eq=False)
class StrategyMemory:
    """A copy of a strategy's memory, that of the strategies that it wraps included."""

    attributes: tuple[tuple[Strategy, dict[str, Any]], ...]

    @staticmethod
    def of(strategy: Strategy) -> StrategyMemory:
        """Copy it."""
        return StrategyMemory(
            tuple(
                (each, {name: deepcopy(value) for name, value in vars(each).items() if _is_plain(value)})
                for each in with_wrapped(strategy)
            )
        )

    def restore(self) -> None:
        """Put it back; data that the strategy has begun to remember since is forgotten."""
        for strategy, remembered in self.attributes:
            since = [
                name for name, value in vars(strategy).items() if name not in remembered and _is_plain(value)
            ]
            for name in since:
                delattr(strategy, name)
            for name, value in remembered.items():
                setattr(strategy, name, deepcopy(value))


def forget_global_arrays(strategy: Strategy) -> None:
    """Make a strategy take its copy of the global model anew from what the next round sends."""
    for each in with_wrapped(strategy):
        if getattr(each, _GLOBAL_ARRAYS, None) is not None:
            setattr(each, _GLOBAL_ARRAYS, None)


def with_wrapped(strategy: Strategy) -> list[Strategy]:
    """A strategy and those that it wraps, such as one with differential privacy around another."""
    found, waiting = [], [strategy]
    while waiting:
        each = waiting.pop()
        if each not in found:
            found.append(each)
            waiting += [value for value in vars(each).values() if isinstance(value, Strategy)]
    return found


def _is_plain(value: object) -> bool:
    if isinstance(value, _PLAIN):
        return True
    if isinstance(value, dict):
        return all(map(_is_plain, value)) and all(map(_is_plain, value.values()))
    return isinstance(value, list | tuple | set | frozenset | deque) and all(map(_is_plain, value))
