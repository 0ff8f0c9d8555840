"""Joins consecutive packed convolutions, and the activations between them, into one module.

Autograd then sees one step; its overhead is a large part of a small network's time.
"""

from __future__ import annotations

from torch import nn

from fedmend.acceleration.packing import PackedConvolutions, hooked

_NOTHING = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


def joined(model: nn.Module) -> nn.Module:
    """Join packed convolutions in every ``nn.Sequential`` of the model, in place; ``nn.Identity`` fills the gaps.

    Args:
        model: in eval mode, from ``packed``.
    """
    for module in list(model.modules()):
        if type(module) is nn.Sequential:
            _join(module)
    return model


def _join(sequence: nn.Sequential) -> None:
    """Join consecutive packed convolutions and the activations after them.

    The last activation is joined only if torch also keeps its output for the backward pass; otherwise the model may
    change that output in place.
    """
    run: PackedConvolutions | None = None
    behind: tuple[str, nn.Module] | None = None  # the activation behind the run's last convolution

    def take_in() -> None:
        nonlocal behind
        if run is not None and behind is not None:
            run.layers[-1].slope = _slope(behind[1])
            sequence._modules[behind[0]] = nn.Identity()
        behind = None

    def end() -> None:
        nonlocal run, behind
        if behind is not None and (type(behind[1]) is nn.ReLU or getattr(behind[1], "inplace", False)):
            take_in()
        run = behind = None

    for name, module in list(sequence._modules.items()):  # a module may be there twice
        if isinstance(module, PackedConvolutions) and run is not None:
            take_in()
            run.layers += module.layers
            sequence._modules[name] = nn.Identity()
        elif isinstance(module, PackedConvolutions):
            run = module
        elif run is not None and module is not None and behind is None and _slope(module) is not None:
            behind = name, module
        elif type(module) not in _NOTHING or hooked(module):
            end()
        elif run is not None:
            sequence._modules[name] = nn.Identity()
    end()


def _slope(activation: nn.Module) -> float | None:
    """The slope of ReLU or LeakyReLU without hooks; None for others, since a negative slope hides the inputs' signs."""
    if hooked(activation):
        return None
    if type(activation) is nn.LeakyReLU and activation.negative_slope >= 0:
        return float(activation.negative_slope)
    return 0.0 if type(activation) is nn.ReLU else None
