"""Moves the tensors of a record's JSON to a safetensors file beside it, and back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from fedmend.detection.json_types import decode_tensor, encode_tensor
from fedmend.errors import DataError

FILE = "scan.safetensors"


def without_tensors(text: str) -> tuple[str, bytes | None]:
    """Take the tensors out of a record.

    Args:
        text: its JSON, with tensors as base64.

    Returns:
        JSON whose tensors are names in :data:`FILE`, and that file's bytes; None if there is no tensor.
    """
    content = json.loads(text)
    tensors = {}
    for name, entry in _tensors(content, "base64"):
        tensors[name] = decode_tensor(entry)
        del entry["base64"]
        entry["tensor"] = name
    if not tensors:
        return text, None
    data = safetensors.torch.save(tensors)
    content["tensors"] = {"file": FILE, "sha256": hashlib.sha256(data).hexdigest()}
    return json.dumps(content, indent=2, ensure_ascii=False), data


def with_tensors(text: str | bytes, folder: Path) -> str | bytes:
    """Put back what :func:`without_tensors` took out; other texts are returned as they are.

    Args:
        text: JSON.
        folder: where :data:`FILE` is.

    Raises:
        DataError: the file is missing, damaged or another record's.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return text  # whoever reads it says what is wrong
    if not isinstance(content, dict) or "tensors" not in content:
        return text
    path, beside = folder / FILE, content.pop("tensors")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"can't read {path}, which holds the report's tensors: {error.strerror}") from error
    if not isinstance(beside, dict) or beside.get("sha256") != hashlib.sha256(data).hexdigest():
        raise DataError(f"{path} is damaged or of another scan: its SHA-256 isn't the one in the report")
    tensors: dict[str, torch.Tensor] = safetensors.torch.load(data)
    for _, entry in _tensors(content, "tensor"):
        value = tensors.get(str(entry.pop("tensor")))
        if value is not None:
            entry["base64"] = encode_tensor(value)["base64"]
    return json.dumps(content, ensure_ascii=False)


def _tensors(value: Any, key: str, name: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every tensor in nested lists and dicts with its path; what holds it is the entry ``key``."""
    if isinstance(value, dict) and value.keys() == {"dtype", "shape", key}:
        yield name, value
    elif isinstance(value, dict | list):
        for each in list(value) if isinstance(value, dict) else range(len(value)):
            yield from _tensors(value[each], key, f"{name}.{each}" if name else str(each))
