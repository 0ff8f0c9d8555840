"""Files of triggers: safetensors with the keys ``mask`` and ``pattern``."""

from __future__ import annotations

from pathlib import Path

from fedmend.checkpoints.reading import read_state
from fedmend.checkpoints.wording import listed
from fedmend.checkpoints.writing import save_state
from fedmend.errors import CheckpointError, DataError
from fedmend.triggers import Patch


def save_trigger(trigger: Patch, path: Path | str) -> None:
    """Write a patch as safetensors: ``mask`` (1, H, W) and ``pattern`` (C, H, W), floats in [0, 1].

    Raises:
        OutputError: the file can't be written.
    """
    save_state({"mask": trigger.mask, "pattern": trigger.pattern}, path)


def read_trigger(path: Path | str) -> Patch:
    """Read a patch that :func:`save_trigger` wrote.

    Raises:
        CheckpointError: the file is missing or damaged, or doesn't hold a trigger.
    """
    state = read_state(path)
    if set(state) != {"mask", "pattern"}:
        raise CheckpointError(
            f"{path} holds no trigger: expected mask and pattern, got {listed(state)}; name a file such as "
            "trigger.safetensors"
        )
    try:
        return Patch(state["mask"], state["pattern"])
    except DataError as error:
        raise CheckpointError(f"{path} holds no usable trigger: {error}") from error
