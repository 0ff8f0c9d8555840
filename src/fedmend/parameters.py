"""A model's state as one flat vector and back, for rules that work on vectors.

- **Floating-point entries** form the vector, in the order of the ``state_dict``: parameters, and buffers such as
  BatchNorm's running mean and variance. A federation averages all of them. An attacker that amplifies its update must
  scale only parameters, since a negative variance breaks a model; :func:`parameter_mask` marks the parameters.
- **Integer and boolean entries**, such as ``num_batches_tracked``, aren't in the vector. The aggregated model takes
  the median over the participants: :func:`integer_median`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from fedmend.errors import ModelError


def float_names(state: Mapping[str, Tensor]) -> list[str]:
    """Names of the floating-point entries of a ``state_dict``, in its order.

    Raises:
        ModelError: an entry is complex or isn't a tensor.
    """
    for name, value in state.items():
        if not isinstance(value, Tensor) or value.is_complex():
            kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
            raise ModelError(f"a model's state must hold only real tensors; {name!r} is of type {kind}")
    return [name for name, value in state.items() if value.is_floating_point()]


def flatten(state: Mapping[str, Tensor]) -> Tensor:
    """All floating-point entries of ``state`` as one new vector.

    Returns:
        (D,), float32, or float64 if an entry is; on the device of the entries. It shares no memory with them.

    Raises:
        ModelError: an entry is complex or isn't a tensor.
    """
    entries = [state[name].detach() for name in float_names(state)]
    dtype = torch.float64 if any(entry.dtype == torch.float64 for entry in entries) else torch.float32
    if not entries:
        return torch.empty(0)
    return torch.cat([entry.reshape(-1).to(dtype) for entry in entries])


def unflatten(vector: Tensor, template: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Undo :func:`flatten`.

    Args:
        vector: (D,), as long as the floating-point entries of ``template`` together.
        template: a state with the names, shapes, types and devices, and the integer entries' values.

    Returns:
        A new state that shares no memory with either argument.

    Raises:
        ModelError: the vector has another length, or the template holds something other than real tensors.
    """
    names = float_names(template)
    expected = sum(template[name].numel() for name in names)
    if tuple(vector.shape) != (expected,):
        raise ModelError(
            f"expected a vector of {expected} values, for {len(names)} floating-point entries; "
            f"got shape {tuple(vector.shape)}, which is of another architecture"
        )
    lengths = [template[name].numel() for name in names]
    pieces = dict(zip(names, torch.split(vector.detach(), lengths), strict=True)) if names else {}
    return {
        name: pieces[name].reshape(entry.shape).to(entry, copy=True) if name in pieces else entry.clone()
        for name, entry in template.items()
    }


def parameter_mask(model: nn.Module) -> Tensor:
    """Which entries of the model's flat vector are parameters, frozen or not; the others are float buffers.

    Returns:
        (D,), bool, on the CPU, aligned with ``flatten(model.state_dict())``.
    """
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    return _mask(model.state_dict(), parameters.__contains__)


def variance_mask(state: Mapping[str, Tensor]) -> Tensor:
    """Which entries of a state's flat vector are BatchNorm's running variances, which are never negative.

    Returns:
        (D,), bool, on the CPU, aligned with ``flatten(state)``.
    """
    return _mask(state, lambda name: name.endswith("running_var"))


def _mask(state: Mapping[str, Tensor], chosen: Callable[[str], bool]) -> Tensor:
    parts = [torch.full((state[name].numel(),), chosen(name)) for name in float_names(state)]
    return torch.cat(parts) if parts else torch.empty(0, dtype=torch.bool)


def integer_median(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The integer and boolean entries of the participants' states, each the elementwise lower median over them.

    So a minority can neither overflow a counter nor point an index beyond its array.

    Args:
        states: one or more states of the same architecture.

    Raises:
        ModelError: there is no state, or an entry is missing from one or has another shape there.
    """
    if not states:
        raise ModelError("expected the states of one or more participants; got none")
    floats = set(float_names(states[0]))
    merged = {}
    for name, first in states[0].items():
        if name in floats:
            continue
        sent = [state[name] for state in states if name in state and state[name].shape == first.shape]
        if len(sent) < len(states):
            raise ModelError(
                f"the participants' states differ in {name!r}; all must be of the same architecture"
            )
        numbers = torch.stack([each.to(first).to(torch.int64) for each in sent])
        merged[name] = numbers.sort(dim=0).values[(len(sent) - 1) // 2].to(first)
    return merged
