"""Records in JSON, without loss: tensors and triggers as little-endian base64 beside type and shape."""

from __future__ import annotations

import base64
import json
from typing import Annotated, Any, TypeVar

import numpy as np
import torch
from pydantic import ConfigDict, PlainSerializer, PlainValidator, TypeAdapter, ValidationError, WithJsonSchema
from torch import Tensor

from fedmend.errors import DataError
from fedmend.triggers import Addition, Patch

_Record = TypeVar("_Record")

_DTYPES = ("float32", "float16", "float64", "uint8", "int64")


def encode_tensor(value: Tensor) -> dict[str, Any]:
    """A tensor as its type, its shape and its values."""
    array = value.detach().cpu().contiguous().numpy()
    return {
        "dtype": array.dtype.name,
        "shape": list(array.shape),
        "base64": base64.b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode(),
    }


def decode_tensor(value: Any) -> Tensor:
    """What :func:`encode_tensor` made of it.

    Raises:
        ValueError: it isn't that.
    """
    if isinstance(value, Tensor):
        return value
    if not isinstance(value, dict) or value.get("dtype") not in _DTYPES:
        raise ValueError(f"expected a tensor as dtype ({', '.join(_DTYPES)}), shape and base64")
    raw = base64.b64decode(value["base64"], validate=True)
    array = np.frombuffer(raw, dtype=np.dtype(value["dtype"]).newbyteorder("<"))
    return torch.from_numpy(array.reshape(value["shape"]).astype(value["dtype"]))


def _encode_trigger(value: Patch | Addition) -> dict[str, Any]:
    if isinstance(value, Addition):
        return {"delta": encode_tensor(value.delta)}
    return {"mask": encode_tensor(value.mask), "pattern": encode_tensor(value.pattern)}


def _decode_trigger(value: Any) -> Patch | Addition:
    if isinstance(value, Patch | Addition):
        return value
    if "delta" in value:
        return Addition(decode_tensor(value["delta"]))
    return Patch(decode_tensor(value["mask"]), decode_tensor(value["pattern"]))


_TENSOR_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "dtype": {"enum": list(_DTYPES)},
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "tensor": {"type": "string", "description": "its name in the safetensors file beside the report"},
        "base64": {"type": "string", "description": "its values, little-endian"},
    },
    "required": ["dtype", "shape"],
    "oneOf": [{"required": ["tensor"]}, {"required": ["base64"]}],
    "additionalProperties": False,
}
_TRIGGER_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": dict.fromkeys(("mask", "pattern", "delta"), _TENSOR_SCHEMA),
    "oneOf": [{"required": ["mask", "pattern"]}, {"required": ["delta"]}],
    "additionalProperties": False,
}

JsonTensor = Annotated[
    Tensor, PlainValidator(decode_tensor), PlainSerializer(encode_tensor), WithJsonSchema(_TENSOR_SCHEMA)
]
JsonTrigger = Annotated[
    Patch | Addition,
    PlainValidator(_decode_trigger),
    PlainSerializer(_encode_trigger),
    WithJsonSchema(_TRIGGER_SCHEMA),
]

STRICT = ConfigDict(extra="forbid", arbitrary_types_allowed=True, ser_json_inf_nan="constants")


def to_json_text(adapter: TypeAdapter[_Record], record: _Record) -> str:
    """A record as indented JSON; NaN and infinity are written as such, in settings as well."""
    # pydantic's own JSON writes null for an infinite or NaN setting; json writes Infinity and NaN.
    return json.dumps(adapter.dump_python(record), indent=2, ensure_ascii=False, default=str)


def from_json_text(adapter: TypeAdapter[_Record], text: str | bytes, what: str) -> _Record:
    """Read what :func:`to_json_text` wrote.

    Raises:
        DataError: the text is no such record; the message names ``what`` was expected.
    """
    try:
        return adapter.validate_json(text)
    except (ValidationError, KeyError, TypeError) as error:
        raise DataError(f"not a fedmend {what}: {error}") from error
