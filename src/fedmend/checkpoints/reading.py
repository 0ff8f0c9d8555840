"""Reads model files, which may come from anyone and may be hostile.

A file is data: no code in it is run, and no architecture is read from it. Cheap checks come first: the kind of file,
whether its table of contents is consistent, then names, types and shapes. :mod:`fedmend.checkpoints.fitting` checks
the values before they reach a model. ``torch.save`` files are read with ``weights_only``, and their storages are
mapped from the file, so a false size can't reach beyond it.
"""

from __future__ import annotations

import io
import json
import pickle
import pickletools
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from fedmend.checkpoints.plain_tensors import DTYPES, PREFIXES
from fedmend.checkpoints.wording import kind_of, short, shown
from fedmend.errors import CheckpointError

_LARGEST_FILE = 8 * 2**30
_LARGEST_HEADER = 16 * 2**20
_NESTED = ("state_dict", "model_state_dict", "model")
_ADVICE = "ask for the weights as a .safetensors file"


def read_state(path: Path | str) -> dict[str, Tensor]:
    """Read the weights in a model file, without running any code in it.

    Accepts safetensors and ``torch.save`` files that hold a ``state_dict``, or a dict with one under
    ``state_dict``, ``model_state_dict`` or ``model``. A prefix ``module.`` or ``_orig_mod.`` of all names is
    removed.

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
            raise CheckpointError(f"{damaged} ({short(error)}); copy it again") from error


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
            # A mapped storage is a slice of the file, so a declared size can't reach beyond it.
            content: object = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
            return content
    except OSError:
        raise
    except Exception as error:
        if isinstance(error, pickle.UnpicklingError) and (zipped or _pickled_objects(path)):
            found = re.search(r"GLOBAL ([\w.]+)", str(error))
            what = f"Python code ({short(found[1])})" if found else "Python objects"
            raise CheckpointError(
                f"{path} holds {what} that could run when loaded; nothing was run. It may be an attack, or a "
                f"whole model pickled rather than its state_dict(): {_ADVICE}"
            ) from error
        raise CheckpointError(
            f"{path} is damaged or not a model file: expected safetensors or a state_dict written by "
            "torch.save; copy it again"
        ) from error


def _pickled_objects(path: Path) -> bool:
    """Whether a pickle at the file's start calls something; pickles are parsed, not run."""
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
    """Check that entries are uncompressed and together no larger than the file, as ``torch.save`` writes them."""
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
            f"could exhaust memory; {_ADVICE}"
        )


def _unwrap(path: Path, content: object) -> dict[str, object]:
    """The state dict: the content itself, or the one inside a training checkpoint."""
    wanted = f"expected a state_dict, or a dict with one under {', '.join(_NESTED)}"
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a value of type {kind_of(content)}; {wanted}")
    nested = [key for key in _NESTED if isinstance(content.get(key), dict)]
    if len(nested) > 1:
        raise CheckpointError(f"{path} holds {len(nested)} state dicts ({', '.join(nested)}): keep only one")
    state: dict[object, object] = content[nested[0]] if nested else content
    if not state:
        raise CheckpointError(f"{path} holds no tensors; {wanted}")
    for name, value in state.items():
        if not isinstance(name, str):
            raise CheckpointError(f"{path} has a key of type {kind_of(name)}; expected strings")
        if type(value) not in (Tensor, nn.Parameter):
            raise CheckpointError(f"{path} holds a value of type {kind_of(value)} at {shown(name)}; {wanted}")
    return {str(name): value for name, value in state.items()}


def _strip(state: dict[str, Any]) -> dict[str, Any]:
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def _own(path: Path, state: dict[str, Any], size: int) -> dict[str, Tensor]:
    """Copy the tensors after checking that they are dense, real and no larger than the file can hold."""
    total = 0
    for name, value in state.items():
        dense = value.layout == torch.strided and not value.is_quantized and not value.is_nested
        if value.is_meta or not dense or value.dtype not in DTYPES:
            raise CheckpointError(
                f"{path} holds {shown(name)} of type {kind_of(value)}; "
                "expected dense real tensors: save it as one"
            )
        nbytes = value.numel() * value.element_size()
        total += nbytes
        if nbytes > value.untyped_storage().nbytes() or total > 4 * size:
            raise CheckpointError(
                f"{path} claims the shape {shown(tuple(value.shape))} for {shown(name)}, more than the file "
                f"holds; it is damaged or made to exhaust memory: {_ADVICE}"
            )
    try:
        return {
            name: value.detach().clone(memory_format=torch.contiguous_format) for name, value in state.items()
        }
    except RuntimeError as error:
        raise CheckpointError(f"{path} holds tensors of impossible shapes ({short(error)})") from error
