"""Batch normalisation folded into the convolutions before it: the same answers by fewer operations."""

from __future__ import annotations

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def folded(model: nn.Module) -> nn.Module:
    """The model with every BatchNorm2d behind a convolution folded into it, in a copy; what else there is is shared.

    Args:
        model: in eval mode. Without BatchNorm2d it is returned as it is.

    Raises:
        Exception: of any kind: torch.fx can't follow the model.
    """
    if not any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        return model
    traced = fx.symbolic_trace(model)
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
