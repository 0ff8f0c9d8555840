"""Batch normalisation folded into the convolutions before it: the same answers by fewer operations."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fedmend.inversion.features import FeatureMap

_CHECKED_IMAGES = 8
_TOLERANCE = 1e-3


@torch.no_grad()
def folded(model: nn.Module, images: Tensor) -> nn.Module:
    """The model with every BatchNorm2d behind a convolution folded into it, in a copy; what else there is is shared.

    The model as it is, where it has no BatchNorm2d, where torch.fx can't follow it, and where the folded one doesn't
    answer the images alike.

    Args:
        model: (N, C, H, W) to logits, in eval mode.
        images: float (N, C, H, W); the first eight are asked.
    """
    if not any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        return model
    some = images[:_CHECKED_IMAGES]
    before = FeatureMap(model)(some)[1]
    try:
        lighter = _folded(fx.symbolic_trace(model))
        after = FeatureMap(lighter)(some)[1]
    except Exception:  # following a model runs its own code on stand-ins, which may raise anything
        return model
    alike = (after - before).abs().max() <= _TOLERANCE * before.abs().max().clamp_min(1)
    return lighter if bool(alike) else model


def _folded(traced: fx.GraphModule) -> fx.GraphModule:
    modules = dict(traced.named_modules())
    for node in traced.graph.nodes:
        before = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
            continue
        convolution, norm = modules[str(before.target)], modules[str(node.target)]
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            traced.set_submodule(str(before.target), fuse_conv_bn_eval(convolution, norm))
            node.replace_all_uses_with(before)
            traced.graph.erase_node(node)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced
