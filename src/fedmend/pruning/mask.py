"""Parameters that stay zero: how a pruned channel is kept pruned while the model is trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fedmend.errors import ConfigError, ModelError
from fedmend.pruning.layers import Point

Zeros = dict[str, Tensor]
"""Parameters' names, each with a bool tensor of its shape: True for what is zero."""


def channel_zeros(point: Point, channels: Sequence[int]) -> Zeros:
    """What is zero when channels of a convolution are pruned: their weights, biases and normalisation.

    Zero after the convolution is zero after ReLU and every other nonlinearity with f(0) = 0.

    Args:
        channels: numbers of output channels, in [0, C).

    Raises:
        ConfigError: there is no such channel, or none would be left. ModelError: see :func:`require_prunable`.
    """
    width = point.convolution.out_channels
    chosen = sorted(set(channels))
    if chosen and not 0 <= chosen[0] <= chosen[-1] < width:
        raise ConfigError(f"channels of {point.name} are 0 to {width - 1}; got {chosen[0]} to {chosen[-1]}")
    if len(chosen) >= width:
        raise ConfigError(f"can't prune all {width} channels of {point.name}")
    zeros = {}
    for norm in point.norms.values() if chosen else ():
        require_prunable(norm)
    for name, module in ((point.name, point.convolution), *point.norms.items()):
        for kind, parameter in module.named_parameters(recurse=False):
            zero = torch.zeros_like(parameter, dtype=torch.bool)
            zero[chosen] = True
            zeros[f"{name}.{kind}"] = zero
    return zeros


def require_prunable(norm: nn.Module) -> None:
    """Check that a channel of zeros stays one through a normalisation.

    Raises:
        ModelError: it has no weight and bias of its own that could be set to zero.
    """
    if isinstance(norm, nn.modules.instancenorm._InstanceNorm) and not norm.track_running_stats:
        return
    if not list(norm.parameters(recurse=False)):
        raise ModelError(
            f"can't prune before {type(norm).__name__} without affine parameters: a zero wouldn't stay one"
        )


def union(*several: Zeros) -> Zeros:
    """What is zero in any of them."""
    together: Zeros = {}
    for zeros in several:
        for name, zero in zeros.items():
            together[name] = together[name] | zero if name in together else zero
    return together


@torch.no_grad()
def set_to_zero(model: nn.Module, zeros: Mapping[str, Tensor]) -> None:
    """Set these parameters to zero, in place."""
    for name, zero in zeros.items():
        parameter = model.get_parameter(name)
        parameter.masked_fill_(zero.to(parameter.device), 0)


@contextmanager
def held(model: nn.Module, zeros: Mapping[str, Tensor]) -> Iterator[None]:
    """Within, these parameters get no gradient; what is zero stays so under any optimizer that starts afresh."""
    handles = []
    try:
        for name, zero in zeros.items():
            parameter = model.get_parameter(name)
            if parameter.requires_grad:
                dead = zero.to(parameter.device)
                handles.append(
                    parameter.register_hook(lambda gradient, dead=dead: gradient.masked_fill(dead, 0))
                )
        yield
    finally:
        for handle in handles:
            handle.remove()
