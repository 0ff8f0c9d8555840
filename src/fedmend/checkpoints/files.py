"""Reading and writing model files, which may come from anyone and may be hostile.

A file is data: nothing in it is run, and no architecture is taken from it. Reading goes from cheap to dear:
what kind of file it is and whether its table of contents is true, then names, types and shapes, then the
values. Only what passed all of that reaches a model. ``.safetensors`` is what fedmend writes; ``torch.save``
files are read with ``weights_only`` and their storages are mapped from the file, so that a size that lies
can't reach beyond it.
"""

from __future__ import annotations

import io
import json
import pickle
import pickletools
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from fedmend.errors import CheckpointError, DataError
from fedmend.files import write_atomically
from fedmend.triggers import Patch

_LARGEST_FILE = 8 * 2**30
_LARGEST_HEADER = 16 * 2**20
_NESTED = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.")  # DataParallel's and torch.compile's
_DTYPES = {
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool),
}
_ADVICE = "ask for the weights as a .safetensors file"


def save_state(state: Mapping[str, Tensor], path: Path | str) -> None:
    """Write a ``state_dict`` as safetensors, whole or not at all; tied tensors are written separately.

    Raises:
        CheckpointError: the state holds something other than plain tensors.
        OutputError: the file can't be written.
    """
    entries = {}
    for name, value in state.items():
        if not isinstance(value, Tensor) or value.dtype not in _DTYPES or value.layout != torch.strided:
            raise CheckpointError(f"can't save {_show(name)}, a {_kind(value)}: expected a dense real tensor")
        entries[name] = value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
    content = safetensors.torch.save(entries, metadata={"format": "pt"})
    write_atomically(Path(path), lambda temporary: _write(temporary, content))


def read_state(path: Path | str) -> dict[str, Tensor]:
    """Read the weights in a model file, without running anything in it.

    Accepts safetensors and ``torch.save`` files that hold a ``state_dict``, or a dict with one under
    ``state_dict``, ``model_state_dict`` or ``model``. A prefix ``module.`` or ``_orig_mod.`` that all
    names share is taken off.

    Returns:
        Names to dense real tensors on the CPU, which share no memory with each other or with the file. The
        values may still be NaN and the shapes those of another architecture: :func:`load_into` checks that.

    Raises:
        CheckpointError: the file is missing, damaged or hostile, or holds something else.
    """
    path = Path(path)
    try:
        size = _size(path)
        with path.open("rb") as file:
            head = file.read(9)
        if path.suffix.lower() == ".safetensors" or head[8:] == b"{":
            content: object = _read_safetensors(path)
        else:
            content = _read_torch(path, zipped=head.startswith(b"PK"))
        return _own(path, _strip(_unwrap(path, content)), size)
    except (OSError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or "not enough memory"
        raise CheckpointError(f"can't read {path}: {reason}") from error


def load_into(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy ``state`` into ``model``, all or nothing; floating-point values take the model's types.

    Raises:
        CheckpointError: names, shapes or types differ from the model's, or a value is NaN, infinite, or a
            negative variance. The model is then as it was.
    """
    own = model.state_dict()
    extra = [name for name, value in own.items() if not isinstance(value, Tensor)]
    if extra:
        raise CheckpointError(
            f"the model keeps {_list(extra)} outside of tensors, which no checkpoint here holds"
        )
    for prefix in _PREFIXES:  # read_state takes off the prefix even if it belongs to the model
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
            f"the checkpoint holds NaN or infinite values in {_list(broken)}; training diverged or the file "
            "is damaged: use an earlier checkpoint"
        )
    negative = [n for n, value in checked.items() if n.endswith("running_var") and bool((value < 0).any())]
    if negative:
        raise CheckpointError(
            f"the checkpoint holds negative variances in {_list(negative)}; it can't be used"
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


def save_trigger(trigger: Patch, path: Path | str) -> None:
    """Write a trigger as safetensors, with the keys ``mask`` and ``pattern``.

    Raises:
        OutputError: the file can't be written.
    """
    save_state({"mask": trigger.mask, "pattern": trigger.pattern}, path)


def read_trigger(path: Path | str) -> Patch:
    """Read what :func:`save_trigger` wrote.

    Raises:
        CheckpointError: the file is missing or damaged, or doesn't hold a trigger.
    """
    state = read_state(path)
    if set(state) != {"mask", "pattern"}:
        raise CheckpointError(f"{path} holds no trigger: expected mask and pattern, got {_list(state)}")
    try:
        return Patch(state["mask"], state["pattern"])
    except DataError as error:
        raise CheckpointError(f"{path} holds no usable trigger: {error}") from error


def _size(path: Path) -> int:
    if not path.exists():
        raise CheckpointError(f"there is no file {path}; check the name")
    if not path.is_file():
        raise CheckpointError(f"{path} is not a file; name the model file itself")
    size = path.stat().st_size
    if size == 0:
        raise CheckpointError(f"{path} is empty; copy it again")
    if size > _LARGEST_FILE:
        raise CheckpointError(f"{path} has {size} bytes; fedmend reads model files up to {_LARGEST_FILE}")
    return size


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    damaged = f"{path} is not an intact safetensors file"
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > _LARGEST_HEADER:
            raise CheckpointError(f"{damaged}: its header claims {length} bytes; copy it again, or {_ADVICE}")
        try:
            json.loads(file.read(length), object_pairs_hook=_no_duplicates)
            file.seek(0)
            return safetensors.torch.load(file.read())
        except OSError:
            raise
        except Exception as error:
            raise CheckpointError(f"{damaged} ({_short(error)}); copy it again") from error


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name occurs twice in the header")
    return dict(pairs)


def _read_torch(path: Path, *, zipped: bool) -> object:
    if zipped:
        _check_zip(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Mapped, a storage is a slice of the file, so a declared size can't reach beyond it.
            content: object = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
            return content
    except OSError:
        raise
    except Exception as error:
        if isinstance(error, pickle.UnpicklingError) and (zipped or _pickled_objects(path)):
            found = re.search(r"GLOBAL ([\w.]+)", str(error))
            what = f"Python code ({_short(found[1])})" if found else "Python objects"
            raise CheckpointError(
                f"{path} holds {what} that could run when loaded; nothing was run. It may be an attack, or a "
                f"whole model pickled rather than its state_dict(): {_ADVICE}"
            ) from error
        raise CheckpointError(
            f"{path} is damaged or not a model file: expected safetensors or a state_dict written by "
            "torch.save; copy it again"
        ) from error


def _pickled_objects(path: Path) -> bool:
    """Whether the file begins with whole pickles of which one calls something; they are parsed, not run."""
    with path.open("rb") as file:
        beginning = io.BytesIO(file.read(2**20))
    try:
        while True:
            names = {opcode.name for opcode, _, _ in pickletools.genops(beginning)}
            if names & {"REDUCE", "BUILD", "NEWOBJ", "NEWOBJ_EX", "INST", "OBJ"}:
                return True
    except Exception:  # the end, or not a pickle
        return False


def _check_zip(path: Path) -> None:
    """A ``torch.save`` file is a zip of uncompressed entries, so together they can't exceed the file."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise CheckpointError(f"{path} is damaged or cut short; copy it again") from error
    names = {entry.filename for entry in entries}
    if any(name.rpartition("/")[2] == "constants.pkl" for name in names):
        raise CheckpointError(
            f"{path} is a TorchScript archive, which holds code; save the model's state_dict() instead"
        )
    if len(names) < len(entries):
        raise CheckpointError(f"{path} names an entry twice, which torch.save never does; {_ADVICE}")
    stored = all(e.compress_type == zipfile.ZIP_STORED and e.file_size == e.compress_size for e in entries)
    if not stored or sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise CheckpointError(
            f"{path} holds compressed or overlapping entries, which torch.save never writes and which "
            f"could fill the memory; {_ADVICE}"
        )


def _unwrap(path: Path, content: object) -> dict[str, object]:
    """The state dict itself, or the one inside a training checkpoint."""
    wanted = f"expected a state_dict, or a dict with one under {', '.join(_NESTED)}"
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {_kind(content)}; {wanted}")
    nested = [key for key in _NESTED if isinstance(content.get(key), dict)]
    if len(nested) > 1:
        raise CheckpointError(f"{path} holds {len(nested)} state dicts ({', '.join(nested)}): keep only one")
    state: dict[object, object] = content[nested[0]] if nested else content
    if not state:
        raise CheckpointError(f"{path} holds no tensors; {wanted}")
    for name, value in state.items():
        if not isinstance(name, str):
            raise CheckpointError(f"{path} has a {_kind(name)} for a name; {wanted}")
        if type(value) not in (Tensor, nn.Parameter):
            raise CheckpointError(f"{path} holds a {_kind(value)} at {_show(name)}; {wanted}")
    return {str(name): value for name, value in state.items()}


def _strip(state: dict[str, Any]) -> dict[str, Any]:
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def _own(path: Path, state: dict[str, Any], size: int) -> dict[str, Tensor]:
    """Copies of the tensors, once it is known that they are plain and no larger than the file can hold."""
    total = 0
    for name, value in state.items():
        dense = value.layout == torch.strided and not value.is_quantized and not value.is_nested
        if value.is_meta or not dense or value.dtype not in _DTYPES:
            raise CheckpointError(
                f"{path} holds {_show(name)} as a {_kind(value)}; "
                "expected dense real tensors: save it as such"
            )
        nbytes = value.numel() * value.element_size()
        total += nbytes
        if nbytes > value.untyped_storage().nbytes() or total > 4 * size:
            raise CheckpointError(
                f"{path} claims the shape {_show(tuple(value.shape))} for {_show(name)}, more than the file "
                f"holds; it is damaged or made to fill the memory: {_ADVICE}"
            )
    try:
        return {
            name: value.detach().clone(memory_format=torch.contiguous_format) for name, value in state.items()
        }
    except RuntimeError as error:
        raise CheckpointError(f"{path} holds tensors of impossible shapes ({_short(error)})") from error


def _check_names(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    missing = [name for name in own if name not in state]
    unknown = [name for name in state if name not in own]
    if missing or unknown:
        parts = [f"it lacks {_list(missing)}"] if missing else []
        parts += [f"it has {_list(unknown)}, which the model hasn't"] if unknown else []
        raise CheckpointError(
            f"the checkpoint is of another architecture: {'; '.join(parts)}; "
            "name the architecture it was trained as"
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
            f"the checkpoint is of another architecture or for other images: {_list(differ)} differ in "
            f"shape; {_show(first)} is {_show(tuple(state[first].shape))} rather than "
            f"{tuple(own[first].shape)}"
        )
    for name, entry in own.items():
        given = state[name]
        if given.dtype != entry.dtype and not (given.is_floating_point() and entry.is_floating_point()):
            raise CheckpointError(
                f"the checkpoint has {_show(name)} as {given.dtype}, the model as {entry.dtype}"
            )


def _kind(value: object) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    quality = [str(value.dtype)]
    quality += ["meta"] if value.is_meta else []
    quality += [] if value.layout == torch.strided else [str(value.layout)]
    return f"tensor ({', '.join(quality)})"


def _list(names: Iterable[str], most: int = 3) -> str:
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(_show(name) for name in names[:most]) + more


def _show(value: object) -> str:
    """A file's own words, quoted, on one line and short: they may be chosen to mislead a terminal."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _short(value: object) -> str:
    return _show(str(value))[1:-1] or type(value).__name__


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
