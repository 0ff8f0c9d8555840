"""Writes model files: safetensors, atomically."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from fedmend.checkpoints.plain_tensors import DTYPES
from fedmend.checkpoints.wording import kind_of, shown
from fedmend.errors import CheckpointError
from fedmend.files import write_bytes


def save_state(state: Mapping[str, Tensor], path: Path | str) -> None:
    """Write a ``state_dict`` as safetensors, atomically; tied tensors are written separately.

    Args:
        state: names to dense real tensors on any device.
        path: the file; its folder is made if needed.

    Raises:
        CheckpointError: the state holds something other than dense real tensors.
        OutputError: the file can't be written.
    """
    write_bytes(Path(path), state_bytes(state))


def state_bytes(state: Mapping[str, Tensor]) -> bytes:
    """What :func:`save_state` writes.

    Raises:
        CheckpointError: see there.
    """
    entries = {}
    for name, value in state.items():
        if not isinstance(value, Tensor) or value.dtype not in DTYPES or value.layout != torch.strided:
            raise CheckpointError(
                f"can't save {shown(name)} of type {kind_of(value)}: expected a dense real tensor"
            )
        entries[name] = value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
    return safetensors.torch.save(entries, metadata={"format": "pt"})
