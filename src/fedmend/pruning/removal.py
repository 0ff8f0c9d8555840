"""Removes pruned channels with torch-pruning: a smaller model with the same predictions."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from fedmend.errors import ConfigError, DataError, ModelError
from fedmend.inference import evaluating, pixels_for
from fedmend.pruning.layers import locate
from fedmend.pruning.pruning_mask import channel_mask


def remove_channels(
    model: nn.Module, channels: Sequence[int], images: Tensor, *, layer: str | None = None
) -> nn.Module:
    """A copy of a pruned model without these channels and the weights that read them.

    Args:
        model: with the channels already at zero (see :func:`fedmend.repairs.prune`); left as found.
        images: a few, uint8 or float in [0, 1], (N, C, H, W), on which both models' logits are compared.
        layer: the convolution; by default the one that runs last.

    Returns:
        A model of other shapes: save it whole, since it no longer fits its architecture.

    Raises:
        DataError: there are no images. ConfigError: torch-pruning isn't installed, or no channel would remain.
        ModelError: a channel isn't zero, or can't be removed without changing the logits, for example with a shortcut.
    """
    try:
        import torch_pruning
    except ImportError as error:
        raise ConfigError(
            "removing channels needs torch-pruning; install it with: pip install 'fedmend[slim]'"
        ) from error
    if len(images) == 0:
        raise DataError("removing channels needs at least one image to compare the models' logits; got none")
    found = locate(model, images, layer)
    for name, zero in channel_mask(found, channels).items():
        if bool(model.get_parameter(name)[zero.to(model.get_parameter(name).device)].any()):
            raise ModelError(
                f"channels {list(channels)} of {found.name} aren't pruned: {name} isn't zero there"
            )
    small, pixels = deepcopy(model), pixels_for(model, images)
    frozen = {name for name, parameter in small.named_parameters() if not parameter.requires_grad}
    for parameter in small.parameters():
        parameter.requires_grad_(True)  # torch-pruning follows the gradients' graph
    with evaluating(small), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = torch_pruning.DependencyGraph().build_dependency(small, example_inputs=pixels[:1].clone())
        group = graph.get_pruning_group(
            small.get_submodule(found.name), torch_pruning.prune_conv_out_channels, idxs=sorted(set(channels))
        )
        group.prune()
    for name, parameter in small.named_parameters():
        parameter.requires_grad_(name not in frozen)
    with evaluating(model), evaluating(small), torch.no_grad():
        before = model(pixels.clone())
        try:
            same = torch.allclose(before, small(pixels.clone()), rtol=1e-4, atol=1e-5)
        except RuntimeError:
            same = False
    if not same:
        raise ModelError(
            f"channels of {found.name} can't be removed without changing the model's logits: other layers' channels "
            "are tied to them, for example by a shortcut; keep them at zero"
        )
    return small
