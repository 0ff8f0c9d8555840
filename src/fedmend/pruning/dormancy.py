"""How active each channel of a layer is on a client's own data (federated-pruning paper, 4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedmend.errors import DataError, ModelError
from fedmend.metrics import BATCH_SIZE, evaluating, pixels_for
from fedmend.progress import Progress, silent

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_PASSED = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.Identity, nn.modules.dropout._DropoutNd)


def mean_activations(
    model: nn.Module, images: Tensor, layer: str | None = None, progress: Progress = silent
) -> Tensor:
    """The mean activation of each channel, in one pass over the images, a batch at a time.

    Args:
        model: any module, pixels in [0, 1] to anything; it runs in eval mode and is left as found.
        images: the client's own, uint8 or float in [0, 1], (N, C, H, W).
        layer: a convolution's name (of ``model.named_modules()``); by default the one that runs last. Its channels
            are recorded after the nonlinearity that follows it: a module after at most normalisation and dropout;
            where there is none, what the next module is given, so that a functional one counts as well.
        progress: called as ``progress("dormancy record", batch, batches)``.

    Returns:
        float64 (channels,), on the CPU: means over images and positions.

    Raises:
        DataError: there are no images. ModelError: there is no such convolution, or its activations aren't finite.
    """
    if images.ndim != 4 or len(images) == 0:
        raise DataError(
            f"a dormancy record needs images (N, C, H, W), N at least 1; got {tuple(images.shape)}"
        )
    batches = images.split(BATCH_SIZE)
    with evaluating(model), torch.no_grad():
        point = _point_of(_calls(model, pixels_for(model, images[:1])), layer)
        total, count = torch.zeros(point.convolution.out_channels, dtype=torch.float64), 0

        def add(activations: Tensor) -> None:
            nonlocal total, count
            total += activations.double().transpose(0, 1).flatten(1).sum(1).cpu()
            count += activations.numel() // activations.shape[1]

        handles = point.watch(add)
        try:
            for index, batch in enumerate(batches, 1):
                model(pixels_for(model, batch))
                progress("dormancy record", index, len(batches))
        finally:
            for handle in handles:
                handle.remove()
    if not bool(total.isfinite().all()):
        raise ModelError("the layer's activations are NaN or infinite; is the model damaged?")
    return total / count


@dataclass(frozen=True, eq=False)
class _Point:
    """Where a convolution's activations are taken: what ``module`` returns, or else what it is given."""

    convolution: nn.Conv1d | nn.Conv2d | nn.Conv3d
    module: nn.Module
    given: bool

    def watch(self, add: Callable[[Tensor], None]) -> list[torch.utils.hooks.RemovableHandle]:
        """Call ``add`` once each time that the convolution has run, though the module may run more often."""
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
                add(activations)

        handles = [self.convolution.register_forward_hook(arm)]
        if self.module is not self.convolution and self.given:
            handles.append(self.module.register_forward_pre_hook(lambda _module, inputs: take(inputs[0])))
        elif self.module is not self.convolution:
            handles.append(self.module.register_forward_hook(lambda _module, _inputs, output: take(output)))
        return handles


@dataclass(frozen=True, eq=False)
class _Call:
    """A module without modules of its own, as it ran."""

    name: str
    module: nn.Module
    given: object


def _calls(model: nn.Module, pixels: Tensor) -> list[_Call]:
    """The model's modules in the order in which they run."""
    calls: list[_Call] = []

    def noting(name: str) -> Callable[[nn.Module, tuple[object, ...]], None]:
        return lambda module, inputs: calls.append(_Call(name, module, inputs[0] if inputs else None))

    handles = [
        module.register_forward_pre_hook(noting(name))
        for name, module in model.named_modules()
        if not list(module.children())
    ]
    try:
        model(pixels)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _point_of(calls: list[_Call], layer: str | None) -> _Point:
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
    convolution = calls[places[-1]].module
    assert isinstance(convolution, _CONVOLUTIONS)
    for call in calls[places[-1] + 1 :]:
        if type(call.module).__module__ == nn.modules.activation.__name__:
            return _Point(convolution, call.module, given=False)
        if not isinstance(call.module, _PASSED):
            same = isinstance(call.given, Tensor) and call.given.ndim > 2
            if same and call.given.shape[1] == convolution.out_channels:  # type: ignore[attr-defined]
                return _Point(convolution, call.module, given=True)
            break
    return _Point(convolution, convolution, given=False)
