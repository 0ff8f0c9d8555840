"""Pruning masks: which parameters are zero, and how to hold them at zero during fine-tuning."""

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
    """The mask that prunes channels of a convolution: their weights, biases and normalisation.

    Zero after the convolution stays zero after ReLU and every other nonlinearity with f(0) = 0.

    Args:
        channels: numbers of output channels, in [0, C).

    Raises:
        ConfigError: there is no such channel, or none would remain. ModelError: see :func:`require_prunable`.
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
    """Check that a zero channel stays zero through a normalisation.

    Raises:
        ModelError: the normalisation has no weight and bias to set to zero.
    """
    if isinstance(norm, nn.modules.instancenorm._InstanceNorm) and not norm.track_running_stats:
        return
    if not list(norm.parameters(recurse=False)):
        raise ModelError(
            f"can't prune before {type(norm).__name__} without affine parameters: zeros wouldn't stay zero"
        )


def join_masks(*masks: PruningMask) -> PruningMask:
    """The union of the masks."""
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
    """Block the gradients of the mask's parameters, so zeros stay zero under any new optimizer."""
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
