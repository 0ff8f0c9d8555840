"""What the pickles in ``torch.save`` files mean: tensors, parameters, arrays of NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from fedmend.checkpoints.pickle_parsing import Global, Meaning, Opaque
from fedmend.checkpoints.stored_tensors import (
    Entry,
    Layout,
    Span,
    StoredTensor,
    UnusableTensor,
    contiguous,
    stored,
)

Storage: TypeAlias = tuple[torch.dtype | None, Span]
"""Type (None: untyped, or unknown here) and place of what ``torch.save`` calls a storage."""

STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}
_ARRAY = ("numpy._core.multiarray._reconstruct", "numpy.core.multiarray._reconstruct")
_ENCODE = "_codecs.encode"


def torch_meaning(persistent: Callable[[Any], Any]) -> Meaning:
    """What names mean in a pickle of torch's; ``persistent`` finds storages."""
    return Meaning(_CALLS, _array, persistent)


def dtype_named(name: str) -> torch.dtype | None:
    """The type called so, such as "float16"; None if torch has none."""
    found = getattr(torch, name, None)
    return found if isinstance(found, torch.dtype) else None


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *rest: Any) -> object:
    """A tensor; the third of ``rest`` tells of values that are stored negated or conjugated."""
    if rest[2:] and rest[2]:
        return UnusableTensor("whose values are stored negated or conjugated")
    if not _is_storage(storage):
        return UnusableTensor("a tensor without values")
    dtype, span = storage
    if dtype is None:
        return UnusableTensor("a tensor of an unknown type")
    return stored(span, Layout(dtype, _sizes(shape), _sizes(stride), offset))


def _typed_tensor(storage: Any, offset: Any, shape: Any, stride: Any, *rest: Any) -> object:
    """A tensor of a type for which torch has no storage of its own; the third of ``rest`` is its type."""
    dtype = dtype_named(rest[2].name.removeprefix("torch.")) if isinstance(rest[2], Global) else None
    return _tensor((dtype, storage[1]) if _is_storage(storage) else None, offset, shape, stride)


def _parameter(data: object, *_: object) -> object:
    return data


def _subclass(function: object, _: object, args: object, *__: object) -> object:
    rebuild = _PLAIN.get(function.name) if isinstance(function, Global) else None
    if rebuild is None or type(args) is not tuple:
        return UnusableTensor("a tensor of a class of its own")
    return rebuild(*args)


def _unusable(kind: str) -> Callable[..., UnusableTensor]:
    return lambda *_: UnusableTensor(kind)


def _is_storage(value: object) -> bool:
    return type(value) is tuple and len(value) == 2 and isinstance(value[1], Span)


def _sizes(value: object) -> tuple[int, ...]:
    if isinstance(value, Opaque) and value.name == "torch.Size" and value.args:
        value = value.args[0]
    if type(value) is not tuple:
        raise ValueError("a tensor without a shape")
    return value


def _array(made: Opaque) -> Opaque | Entry:
    """The array that NumPy would fill with this state: version, shape, dtype, column-major or not, bytes."""
    state = made.state
    if made.name not in _ARRAY or type(state) is not tuple or len(state) != 5:
        return made
    _, shape, kind, columns_first, values = state
    text = kind.args[0] if isinstance(kind, Opaque) and kind.name == "numpy.dtype" and kind.args else None
    big_endian = isinstance(kind, Opaque) and type(kind.state) is tuple and kind.state[1:2] == (">",)
    if isinstance(values, Opaque) and values.name == _ENCODE and values.args and type(values.args[0]) is str:
        values = values.args[0]  # bytes as latin-1, as pickle protocol 2 writes them
    dtype = _array_type(text)
    if dtype is None or big_endian or columns_first is not False or type(values) not in (str, bytes):
        return UnusableTensor(f"an array of NumPy of type {text!r:.20}")
    layout = contiguous(dtype, _sizes(shape))
    stored(Span(None, 0, len(values)), layout)  # type: ignore[arg-type] # checks the size only

    def load() -> Tensor:
        content = values.encode("latin-1") if isinstance(values, str) else values
        return torch.frombuffer(bytearray(content), dtype=dtype)[: layout.extent].reshape(layout.shape)

    return StoredTensor(dtype, layout.shape, (id(values), layout), load)


def _array_type(text: object) -> torch.dtype | None:
    try:
        return torch.from_numpy(np.empty(0, dtype=text)).dtype if type(text) is str else None
    except (TypeError, ValueError):
        return None


_PLAIN: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _typed_tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._utils._rebuild_qtensor": _unusable("quantised"),
    "torch._utils._rebuild_sparse_tensor": _unusable("sparse"),
    "torch._utils._rebuild_sparse_csr_tensor": _unusable("sparse"),
    "torch._utils._rebuild_nested_tensor": _unusable("nested"),
    "torch._utils._rebuild_meta_tensor_no_storage": _unusable("on the meta device, without values"),
    "torch._utils._rebuild_wrapper_subclass": _unusable("of a class of its own"),
    "torch.distributed.tensor.DTensor": _unusable("sharded over several machines"),
    "torch.nn.parameter.Parameter": _parameter,
}
_CALLS = {**_PLAIN, "torch._tensor._rebuild_from_type_v2": _subclass}
