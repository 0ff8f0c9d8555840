"""Pruning masks: which parameters are zero, and how they stay zero while the model is fine-tuned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fedmend.errors import ConfigError, ModelError
from fedmend.pruning.layers import ConvLayer

PruningMask = dict[str, Tensor]
"""Names of parameters, each with a bool tensor of its shape: True where it is zero."""


def channel_mask(layer: ConvLayer, channels: Sequence[int]) -> PruningMask:
    """What is zero when channels of a convolution are pruned: their weights, biases and normalisation.

    Zero after the convolution stays zero after ReLU and every other nonlinearity with f(0) = 0.

    Args:
        channels: numbers of output channels, in [0, C).

    Raises:
        ConfigError: there is no such channel, or none would be left. ModelError: see :func:`require_prunable`.
    """
    width = layer.convolution.out_channels
    chosen = sorted(set(channels))
    if chosen and not 0 <= chosen[0] <= chosen[-1] < width:
        raise ConfigError(f"channels of {layer.name} are 0 to {width - 1}; got {chosen[0]} to {chosen[-1]}")
    if len(chosen) >= width:
        raise ConfigError(f"can't prune all {width} channels of {layer.name}")
    mask = {}
    for norm in layer.norms.values() if chosen else ():
        require_prunable(norm)
    for name, module in ((layer.name, layer.convolution), *layer.norms.items()):
        for kind, parameter in module.named_parameters(recurse=False):
            zero = torch.zeros_like(parameter, dtype=torch.bool)
            zero[chosen] = True
            mask[f"{name}.{kind}"] = zero
    return mask


def require_prunable(norm: nn.Module) -> None:
    """Check that a channel of zeros stays one through a normalisation.

    Raises:
        ModelError: it has no weight and bias that could be set to zero.
    """
    if isinstance(norm, nn.modules.instancenorm._InstanceNorm) and not norm.track_running_stats:
        return
    if not list(norm.parameters(recurse=False)):
        raise ModelError(
            f"can't prune before {type(norm).__name__} without affine parameters: a zero wouldn't stay one"
        )


def join_masks(*masks: PruningMask) -> PruningMask:
    """What is zero in any of the masks."""
    joined: PruningMask = {}
    for mask in masks:
        for name, zero in mask.items():
            joined[name] = joined[name] | zero if name in joined else zero
    return joined


@torch.no_grad()
def set_to_zero(model: nn.Module, mask: Mapping[str, Tensor]) -> None:
    """Set the mask's parameters to zero, in place."""
    for name, zero in mask.items():
        parameter = model.get_parameter(name)
        parameter.masked_fill_(zero.to(parameter.device), 0)


@contextmanager
def held(model: nn.Module, mask: Mapping[str, Tensor]) -> Iterator[None]:
    """Within, the mask's parameters get no gradient, so zeros stay zero under any freshly started optimizer."""
    handles = []
    try:
        for name, zero in mask.items():
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
