"""Fits weights to a model: checks names, shapes, types and values, then copies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from fedmend.checkpoints.plain_tensors import PREFIXES
from fedmend.checkpoints.reading import read_state
from fedmend.checkpoints.wording import listed, shown
from fedmend.errors import CheckpointError


def load_into(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy ``state`` into ``model``, all or nothing; floating-point values are cast to the model's types.

    Raises:
        CheckpointError: names, shapes or types differ from the model's, or a value is NaN, infinite, or a
            negative variance. The model is then as it was.
    """
    own = model.state_dict()
    extra = [name for name, value in own.items() if not isinstance(value, Tensor)]
    if extra:
        raise CheckpointError(
            f"the model's state holds {listed(extra)}, which isn't a tensor and which no checkpoint here can hold"
        )
    for prefix in PREFIXES:  # read_state removes the prefix even if it belongs to the model
        if (
            own
            and all(name.startswith(prefix) for name in own)
            and not any(n.startswith(prefix) for n in state)
        ):
            state = {prefix + name: value for name, value in state.items()}
    _check_names(own, state)
    _check_shapes(own, state)
    checked = {name: state[name].detach().to(entry) for name, entry in own.items()}
    broken = [n for n, value in checked.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise CheckpointError(
            f"the checkpoint holds NaN or infinite values in {listed(broken)}; training diverged or the file "
            "is damaged: use an earlier checkpoint"
        )
    negative = [n for n, value in checked.items() if n.endswith("running_var") and bool((value < 0).any())]
    if negative:
        raise CheckpointError(
            f"the checkpoint holds negative variances in {listed(negative)}; it can't be used"
        )
    model.load_state_dict(checked)


def load_checkpoint(path: Path | str, model: nn.Module) -> None:
    """Read a model file and copy it into ``model`` (see :func:`read_state` and :func:`load_into`).

    Raises:
        CheckpointError: the file can't be used for this model, which is then as it was.
    """
    state = read_state(path)
    try:
        load_into(model, state)
    except CheckpointError as error:
        raise CheckpointError(f"can't use {path}: {error}") from error


def _check_names(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    missing = [name for name in own if name not in state]
    unknown = [name for name in state if name not in own]
    if missing or unknown:
        parts = [f"it lacks {listed(missing)}"] if missing else []
        parts += [f"it has {listed(unknown)}, which the model lacks"] if unknown else []
        raise CheckpointError(
            f"the checkpoint is of another architecture: {'; '.join(parts)}; "
            "name the architecture it was trained with"
        )


def _check_shapes(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    differ = [name for name, entry in own.items() if state[name].shape != entry.shape]
    if differ:
        weights = [name for name, entry in own.items() if entry.ndim == 2]
        last = weights[-1] if weights else ""
        head = {last, last.removesuffix("weight") + "bias"}
        if last in differ and set(differ) <= head and own[last].shape[1:] == state[last].shape[1:]:
            raise CheckpointError(
                f"the checkpoint has {state[last].shape[0]} classes, the data has {own[last].shape[0]}; "
                "use the data it was trained for"
            )
        first = differ[0]
        raise CheckpointError(
            f"the checkpoint is of another architecture or for other images: {listed(differ)} differ in "
            f"shape; {shown(first)} is {shown(tuple(state[first].shape))} rather than "
            f"{tuple(own[first].shape)}"
        )
    for name, entry in own.items():
        given = state[name]
        if given.dtype != entry.dtype and not (given.is_floating_point() and entry.is_floating_point()):
            raise CheckpointError(
                f"the checkpoint has {shown(name)} as {given.dtype}, the model as {entry.dtype}"
            )
