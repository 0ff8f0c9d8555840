"""Files of triggers: safetensors with the keys ``mask`` and ``pattern``, or ``delta``."""

from __future__ import annotations

from pathlib import Path

from fedmend.checkpoints.reading import read_state
from fedmend.checkpoints.wording import listed
from fedmend.checkpoints.writing import save_state
from fedmend.errors import CheckpointError, DataError
from fedmend.triggers import Addition, Patch


def save_trigger(trigger: Patch | Addition, path: Path | str) -> None:
    """Write a trigger as safetensors.

    A patch is ``mask`` (1, H, W) and ``pattern`` (C, H, W), floats in [0, 1]. An addition is ``delta`` (C, H, W),
    floats in [-1, 1].

    Raises:
        OutputError: the file can't be written.
    """
    if isinstance(trigger, Addition):
        save_state({"delta": trigger.delta}, path)
    else:
        save_state({"mask": trigger.mask, "pattern": trigger.pattern}, path)


def read_trigger(path: Path | str) -> Patch | Addition:
    """Read a trigger that :func:`save_trigger` wrote.

    Raises:
        CheckpointError: the file is missing or damaged, or doesn't hold a trigger.
    """
    state = read_state(path)
    try:
        if set(state) == {"delta"}:
            return Addition(state["delta"])
        if set(state) == {"mask", "pattern"}:
            return Patch(state["mask"], state["pattern"])
    except DataError as error:
        raise CheckpointError(f"{path} holds no usable trigger: {error}") from error
    raise CheckpointError(
        f"{path} holds no trigger: expected mask and pattern, or delta, got {listed(state)}; name a file such as "
        "trigger.safetensors"
    )


def read_patch(path: Path | str) -> Patch:
    """Read a patch that :func:`save_trigger` wrote.

    Raises:
        CheckpointError: the file is missing or damaged, or doesn't hold a patch.
    """
    trigger = read_trigger(path)
    if not isinstance(trigger, Patch):
        raise CheckpointError(f"{path} holds an addition; expected a patch, with mask and pattern")
    return trigger
