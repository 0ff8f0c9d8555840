"""The file of a repaired model: free before the work begins, written only if there is one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from fedmend.checkpoints import save_state
from fedmend.errors import ConfigError, OutputError


def make_way(out: Path, overwrite: bool, inputs: Sequence[Path]) -> None:
    """See to it that there is no file at ``out``, so that one found there afterwards is this repair's.

    Args:
        out: where the repaired model is to be.
        overwrite: remove a file that is there.
        inputs: never removed.

    Raises:
        ConfigError: ``out`` does not end in .safetensors, is there and ``overwrite`` isn't given, or is an input.
        OutputError: it can't be removed.
    """
    if out.suffix != ".safetensors":
        raise ConfigError(f"--out {out}: repaired models are written as .safetensors; give it that ending")
    if not os.path.lexists(out):
        return
    if out.exists() and any(each.exists() and each.samefile(out) for each in inputs):
        raise ConfigError(f"--out {out} is a file that this repair reads; choose another")
    if not overwrite:
        raise ConfigError(f"--out {out} is there already; choose another, or let --overwrite remove it")
    try:
        out.unlink()
    except OSError as error:
        raise OutputError(f"can't write {out}: {error.strerror}") from error


def save_repaired(model: nn.Module | None, out: Path) -> None:
    """Write the model, if there is one."""
    if model is not None:
        save_state(model.state_dict(), out)
