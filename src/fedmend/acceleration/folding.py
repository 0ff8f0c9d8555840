"""BatchNorm folded into the convolutions before it: the same function with fewer operations."""

from __future__ import annotations

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fedmend.acceleration.packing import hooked


def folded(model: nn.Module) -> nn.Module:
    """A copy of the model with every BatchNorm2d after a convolution folded into it; other modules are shared.

    Args:
        model: in eval mode.

    Returns:
        The model itself, if it has no BatchNorm2d.

    Raises:
        Exception: of any type, if torch.fx can't trace the model.
    """
    if not any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        return model
    traced = fx.symbolic_trace(
        nn.Sequential(model) if hooked(model) else model
    )  # a root's own hooks aren't traced
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
