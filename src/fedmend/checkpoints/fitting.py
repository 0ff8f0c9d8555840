"""Fits weights to a model: finds them, checks names, shapes, types and values, then copies."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from fedmend.checkpoints.file_contents import FileContents, from_tensors
from fedmend.checkpoints.name_matching import Candidate, find_weights, is_counter, same_shape
from fedmend.checkpoints.plain_tensors import DTYPES
from fedmend.checkpoints.reading import open_contents
from fedmend.checkpoints.stored_tensors import Entry, StoredTensor, UnusableTensor
from fedmend.checkpoints.wording import listed, shown, unusable
from fedmend.errors import CheckpointError

_PART_OF_SEVERAL = re.compile(r"-\d+-of-\d+$")


def load_into(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy ``state`` into ``model``, all or nothing; floating-point values are cast to the model's types.

    Prefixes such as ``module.`` may differ; BatchNorm's ``num_batches_tracked`` may be missing, of another type or of
    shape (1,).

    Raises:
        CheckpointError: names, shapes or types differ from the model's, or a value is NaN, infinite, or a
            negative variance. The model is then as it was.
    """
    _fit(model, from_tensors(state), None)


def load_checkpoint(
    path: Path | str, model: nn.Module, *, key: str | None = None, strip_prefix: str | None = None
) -> None:
    """Read a model file and copy its weights into ``model``, all or nothing (see :func:`load_into`).

    The weights are found by the model's names and shapes, under any keys and prefixes; arrays without names, as
    Flower saves them, by their order. Other contents of the file are neither read nor run. Only as much memory is
    taken as the model needs.

    Args:
        path: safetensors, a file of ``torch.save``, or an ``.npz`` file of arrays.
        model: its weights are replaced.
        key: of the state dict to take, such as "state_dict_ema", where a file holds several. Keys within keys are
            joined by dots. A file that is a state dict itself needs none.
        strip_prefix: of the names to take, such as "ema_model.", where a state dict holds several networks. Names
            that are the model's already need none.

    Raises:
        CheckpointError: the file can't be used for this model, which is then as it was.
    """
    with open_contents(path) as contents:
        try:
            _fit(model, contents.under(key), strip_prefix)
        except CheckpointError as error:
            advice = ""
            if _PART_OF_SEVERAL.search(Path(path).stem):
                advice = (
                    "; by its name this is one part of a checkpoint in several files: join them into one first (see "
                    "Model files in the documentation)"
                )
            raise CheckpointError(f"can't use {path}: {error}{advice}") from error


def _fit(model: nn.Module, contents: FileContents, strip_prefix: str | None) -> None:
    own = model.state_dict()
    extra = [name for name, value in own.items() if not isinstance(value, Tensor)]
    if extra:
        raise CheckpointError(
            f"the model's state holds {listed(extra)}, which isn't a tensor and which no checkpoint here can hold"
        )
    parameters = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    found = find_weights(own, parameters, contents, strip_prefix)
    _check_kinds(found.tensors)
    _check_names(own, found, contents)
    _check_shapes(own, found.tensors)
    model.load_state_dict(_values(own, found.tensors))


def _values(own: Mapping[str, Tensor], found: Mapping[str, Entry]) -> dict[str, Tensor]:
    """The checked values in the model's types; one tensor after the other, since they may be large."""
    checked, broken, negative = {}, [], []
    for name, entry in own.items():
        stored = found.get(name)
        if not isinstance(stored, StoredTensor):  # a counter that the file lacks
            checked[name] = entry
            continue
        value = stored.load()
        cast = value.reshape(entry.shape).to(entry)
        if not _finite(value) or not _finite(cast):
            broken.append(name)
        if name.endswith("running_var") and bool((cast < 0).any()):
            negative.append(name)
        checked[name] = cast
    if broken:
        raise CheckpointError(
            f"the checkpoint holds NaN or infinite values in {listed(broken)}; training diverged or the file "
            "is damaged: use an earlier checkpoint"
        )
    if negative:
        raise CheckpointError(
            f"the checkpoint holds negative variances in {listed(negative)}; it can't be used"
        )
    return checked


def _finite(value: Tensor) -> bool:
    return not value.is_floating_point() or bool(torch.isfinite(value).all())


def _check_names(own: Mapping[str, Tensor], found: Candidate, contents: FileContents) -> None:
    missing = [name for name in own if name not in found.tensors and not is_counter(name)]
    if missing:
        _check_kinds(
            {name: entry for name, entry in contents.entries.items() if isinstance(entry, UnusableTensor)}
        )
    if missing or found.unknown:
        parts = [f"it lacks {listed(missing)}"] if missing else []
        parts += [f"it has {listed(found.unknown)}, which the model lacks"] if found.unknown else []
        raise CheckpointError(
            f"the checkpoint is of another architecture: {'; '.join(parts)}; "
            "name the architecture it was trained with"
        )


def _check_kinds(found: Mapping[str, Entry]) -> None:
    for name, entry in found.items():
        if isinstance(entry, UnusableTensor):
            raise CheckpointError(unusable(name, entry.kind))
        if entry.dtype not in DTYPES:
            raise CheckpointError(unusable(name, f"of type {entry.dtype}"))


def _check_shapes(own: Mapping[str, Tensor], found: Mapping[str, Entry]) -> None:
    given = {name: entry for name, entry in found.items() if isinstance(entry, StoredTensor)}
    differ = [name for name in own if name in given and not same_shape(name, own[name], given[name])]
    if differ:
        weights = [name for name, entry in own.items() if entry.ndim == 2]
        last = weights[-1] if weights else ""
        head = {last, last.removesuffix("weight") + "bias"}
        if last in differ and set(differ) <= head and tuple(own[last].shape[1:]) == given[last].shape[1:]:
            classes, here = given[last].shape[0], own[last].shape[0]
            missing = ""
            if here < classes:
                missing = (
                    "; if images of some classes are missing, name all the model's classes by --classes (in Python, "
                    "classes=[...])"
                )
            raise CheckpointError(
                f"the checkpoint has {classes} classes, the data has {here}; use the data it was trained for{missing}"
            )
        first = differ[0]
        raise CheckpointError(
            f"the checkpoint is of another architecture or for other images: {listed(differ)} differ in "
            f"shape; {shown(first)} is {shown(given[first].shape)} rather than "
            f"{tuple(own[first].shape)}"
        )
    for name, stored in given.items():
        both_float = stored.dtype.is_floating_point and own[name].is_floating_point()
        if stored.dtype != own[name].dtype and not both_float and not is_counter(name):
            raise CheckpointError(
                f"the checkpoint has {shown(name)} as {stored.dtype}, the model as {own[name].dtype}"
            )
