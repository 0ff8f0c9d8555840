"""Finds a convolution and the place of its activations, without changing the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedmend.errors import ModelError
from fedmend.inference import evaluating, pixels_for

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm)
_PASSED = (
    *_NORMS,
    nn.Identity,
    nn.modules.dropout._DropoutNd,
    nn.modules.pooling._MaxPoolNd,
)
_POOLS = nn.modules.pooling._MaxPoolNd


def locate(model: nn.Module, images: Tensor, layer: str | None = None) -> ConvLayer:
    """The convolution called ``layer``, by default the one that runs last, and the nonlinearity that follows it.

    Args:
        model: any module; it runs once, on the first of the images.
        images: uint8 or float in [0, 1], (N, C, H, W).

    Raises:
        ModelError: there is no such convolution, or its weight is computed from other parameters.
    """
    with evaluating(model), torch.no_grad():
        return _find(_run(model, pixels_for(model, images[:1])), layer)


@dataclass(frozen=True, eq=False)
class ConvLayer:
    """A convolution, and the place of its activations.

    Attributes:
        name: of the convolution. norms: the normalisations between it and its activations, by name.
        module: its output, or with ``given`` its input, is the activations.
    """

    name: str
    convolution: nn.Conv1d | nn.Conv2d | nn.Conv3d
    norms: dict[str, nn.Module]
    module: nn.Module
    given: bool

    def watch(self, add: Callable[[Tensor], None]) -> list[torch.utils.hooks.RemovableHandle]:
        """Call ``add`` with the activations once per run of the convolution, even if the module runs more often."""
        armed = False

        def arm(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            nonlocal armed
            armed = self.module is not self.convolution
            if not armed:
                add(output)

        def take(activations: Tensor) -> None:
            nonlocal armed
            if armed:
                armed = False
                channels = self.convolution.out_channels
                add(activations.unflatten(1, (channels, -1)) if activations.ndim == 2 else activations)

        handles = [self.convolution.register_forward_hook(arm)]
        if self.module is not self.convolution and self.given:
            handles.append(self.module.register_forward_pre_hook(lambda _module, inputs: take(inputs[0])))
        elif self.module is not self.convolution:
            handles.append(self.module.register_forward_hook(lambda _module, _inputs, output: take(output)))
        return handles


@dataclass(frozen=True, eq=False)
class _Call:
    """A module without children (other than parametrizations), as it ran."""

    name: str
    module: nn.Module
    given: object


def _run(model: nn.Module, pixels: Tensor) -> list[_Call]:
    """The model's modules in the order in which they run."""
    calls: list[_Call] = []

    def noting(name: str) -> Callable[[nn.Module, tuple[object, ...]], None]:
        return lambda module, inputs: calls.append(_Call(name, module, inputs[0] if inputs else None))

    handles = [
        module.register_forward_pre_hook(noting(name))
        for name, module in model.named_modules()
        if "parametrizations" not in name.split(".")
        and (not list(module.children()) or nn.utils.parametrize.is_parametrized(module))
    ]
    try:
        model(pixels)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _find(calls: list[_Call], layer: str | None) -> ConvLayer:
    places = [
        index
        for index, call in enumerate(calls)
        if isinstance(call.module, _CONVOLUTIONS) and layer in (None, call.name)
    ]
    if not places:
        known = ", ".join(call.name for call in calls if isinstance(call.module, _CONVOLUTIONS))
        raise ModelError(
            f"the model runs no convolution{'' if layer is None else f' called {layer!r}'}; it has {known or 'none'}"
        )
    name, convolution = calls[places[-1]].name, calls[places[-1]].module
    assert isinstance(convolution, _CONVOLUTIONS)
    if "weight" not in dict(convolution.named_parameters(recurse=False)):
        raise ModelError(
            f"the weight of {name} is computed from other parameters, so its channels can't be set to zero; call "
            "torch.nn.utils.parametrize.remove_parametrizations or remove_weight_norm first"
        )
    norms: dict[str, nn.Module] = {}
    user: _Call | None = None
    before_user: dict[str, nn.Module] = {}
    for call in calls[places[-1] + 1 :]:
        if _is_activation(call):
            return ConvLayer(name, convolution, norms, call.module, given=False)
        if user is None and (isinstance(call.module, _POOLS) or not isinstance(call.module, _PASSED)):
            user, before_user = call, dict(norms)
        if isinstance(call.module, _NORMS):
            norms[call.name] = call.module
        elif not isinstance(call.module, _PASSED):
            break
    # No nonlinearity module: the input of the first module after the normalisations includes a functional one.
    between = norms if user is None else before_user
    if user is not None and _has_channels(user.given, convolution.out_channels):
        return ConvLayer(name, convolution, between, user.module, given=True)
    return ConvLayer(name, convolution, between, [convolution, *between.values()][-1], given=False)


def _has_channels(given: object, channels: int) -> bool:
    """Whether a tensor has this number of channels in its second dimension, flattened with their positions or not."""
    if not isinstance(given, Tensor) or given.ndim < 2:
        return False
    return given.shape[1] == channels or (given.ndim == 2 and given.shape[1] % channels == 0)


def _is_activation(call: _Call) -> bool:
    return type(call.module).__module__ == nn.modules.activation.__name__
