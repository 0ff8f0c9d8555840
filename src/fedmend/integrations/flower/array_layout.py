"""From Flower's arrays to a ``state_dict`` and back: names, order and types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from flwr.app import Array, ArrayRecord
from torch import Tensor

from fedmend.errors import ConfigError
from fedmend.integrations.averaged_weights import in_model_type
from fedmend.terminal_text import printable

_SHOWN = 3


@dataclass(frozen=True)
class Entry:
    """One array of a record and the entry of the model's ``state_dict`` that it holds."""

    array: str
    name: str
    sent_as: np.dtype
    dtype: torch.dtype
    shape: tuple[int, ...]


@dataclass(frozen=True)
class ArrayLayout:
    """How a federation's records hold its model: by the names of the ``state_dict``, or by position.

    Attributes:
        entries: in the order of the record.
    """

    entries: tuple[Entry, ...]

    @staticmethod
    def between(arrays: ArrayRecord, state: Mapping[str, Tensor]) -> ArrayLayout:
        """The layout of a record with the weights of a model.

        Args:
            arrays: made from a ``state_dict``, or from a list of NumPy arrays in its order, which Flower numbers.
            state: the model's ``state_dict``.

        Raises:
            ConfigError: the record doesn't hold this model, or holds it rounded.
        """
        names = list(state)
        numbered = list(arrays) == [str(index) for index in range(len(names))]
        by_array = dict(zip(arrays, names, strict=True)) if numbered else {name: name for name in arrays}
        missing = [name for name in names if name not in by_array.values()]
        extra = [name for name in by_array.values() if name not in state]
        if missing or extra:
            raise ConfigError(
                f"the initial arrays don't hold the guard's model: {_differences(missing, extra)}; pass "
                "ArrayRecord(model.state_dict()) of the model that the guard was given"
            )
        entries = []
        for array, name in by_array.items():
            shape, came = tuple(state[name].shape), tuple(arrays[array].shape)
            if came != shape:
                raise ConfigError(
                    f"the initial arrays don't hold the guard's model: expected {printable(name)} of shape {shape}, "
                    f"got {came}; pass ArrayRecord(model.state_dict()) of the model that the guard was given"
                )
            sent_as = arrays[array].numpy().dtype
            if state[name].is_floating_point() and not _holds(sent_as, state[name]):
                raise ConfigError(
                    f"the initial arrays hold {printable(name)} as {sent_as}, the guard's model as "
                    f"{state[name].dtype}: clients would get a rounded model, not the one that was reviewed; pass "
                    "ArrayRecord(model.state_dict()) of the model that the guard was given"
                )
            entries.append(Entry(array, name, sent_as, state[name].dtype, shape))
        return ArrayLayout(tuple(entries))

    def state(self, arrays: ArrayRecord) -> dict[str, Tensor]:
        """The ``state_dict`` that a strategy's result holds, in the model's types.

        An array that can't be of the model is passed on as it is, for the guard to refuse.
        """
        found = {array: torch.from_numpy(np.array(value.numpy())) for array, value in arrays.items()}
        state = {}
        for entry in self.entries:
            value = found.pop(entry.array, None)
            if value is not None:
                state[entry.name] = in_model_type(entry.name, value, entry.dtype)
        return state | found

    def record(self, state: Mapping[str, Tensor]) -> ArrayRecord:
        """The record with a model's weights, in the names, order and types of the initial one."""
        return ArrayRecord(
            {
                entry.array: Array(state[entry.name].detach().cpu().numpy().astype(entry.sent_as))
                for entry in self.entries
            }
        )


def _holds(sent_as: np.dtype, own: Tensor) -> bool:
    """Whether a type holds a floating-point entry's values without rounding."""
    return sent_as.kind == "f" and sent_as.itemsize >= own.element_size()


def _differences(missing: list[str], extra: list[str]) -> str:
    parts = [f"they lack {_listed(missing)}"] if missing else []
    parts += [f"they hold {_listed(extra)}, which it lacks"] if extra else []
    return " and ".join(parts)


def _listed(names: list[str]) -> str:
    shown = ", ".join(printable(name) for name in names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
