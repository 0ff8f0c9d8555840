"""The linear and convolution layers of any model, in the order in which they run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fedmend.errors import ModelError
from fedmend.inference import batch_size_for

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def layers_in_order(model: nn.Module, image: Tensor) -> tuple[str, ...]:
    """The names of the linear and convolution layers, as in ``named_modules``, in the order in which they first run.

    Args:
        model: in eval mode.
        image: of its type and on its device, (1, C, H, W).

    Raises:
        ModelError: it runs none that is a module of torch's.
    """
    ran: list[str] = []

    def noting(name: str) -> Callable[[nn.Module, object, object], None]:
        return lambda _module, _inputs, _output: ran.append(name)

    modules = {name: module for name, module in model.named_modules() if isinstance(module, _LAYERS)}
    handles = [module.register_forward_hook(noting(name)) for name, module in modules.items()]
    try:
        with torch.no_grad():
            model(image.clone())
    finally:
        for handle in handles:
            handle.remove()
    if not ran:
        raise ModelError(
            "the suspect runs no linear or convolution layer of torch.nn, whose activations this method needs; "
            "use another method, or build the network from such layers"
        )
    return tuple(dict.fromkeys(ran))


@torch.no_grad()
def last_hidden_activations(model: nn.Module, pixels: Tensor) -> Tensor:
    """What the last linear or convolution layer is given, flattened; means over positions before a convolution.

    Args:
        model: in eval mode.
        pixels: (N, C, H, W), of its type and on its device.

    Returns:
        float64 (N, F), on the CPU.

    Raises:
        ModelError: see :func:`layers_in_order`, or there are NaN or infinite activations.
    """
    last = layers_in_order(model, pixels[:1])[-1]
    module = model.get_submodule(last)
    convolves = not isinstance(module, nn.Linear)
    parts: list[Tensor] = []
    for batch in pixels.split(batch_size_for(pixels)):
        given: list[Tensor] = []

        def keep(_module: nn.Module, inputs: tuple[Tensor, ...], given: list[Tensor] = given) -> None:
            given.append(inputs[0])

        handle = module.register_forward_pre_hook(keep)
        try:
            model(batch.clone())
        finally:
            handle.remove()
        found = per_image(given[-1], len(batch), last)
        parts.append((found.flatten(2).mean(2) if convolves else found.flatten(1)).double().cpu())
    activations = torch.cat(parts)
    if not bool(activations.isfinite().all()):
        raise ModelError(
            f"the inputs of the suspect's layer {last!r} are NaN or infinite; is the file damaged?"
        )
    return activations


@contextmanager
def outputs_of(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Within, the dict holds what these layers returned when the model last ran: (N, channels, positions) each."""
    kept: dict[str, Tensor] = {}
    images = 0

    def count(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal images
        images = len(inputs[0])

    def keeping(name: str, module: nn.Module) -> Callable[[nn.Module, object, Tensor], None]:
        def keep(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            linear = isinstance(module, nn.Linear)
            parts = per_image(output.movedim(-1, 1) if linear else output, images, name)
            if len(output) != images:  # (N, parts, channels, ...)
                parts = parts.movedim(2, 1)
            kept[name] = parts.flatten(2) if parts.ndim > 2 else parts[:, :, None]

        return keep

    modules = {name: model.get_submodule(name) for name in names}
    handles = [module.register_forward_hook(keeping(name, module)) for name, module in modules.items()]
    handles.append(model.register_forward_pre_hook(count))
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()


def per_image(values: Tensor, images: int, layer: str) -> Tensor:
    """A layer's input or output with a row for each image.

    Some layers are given parts of images, such as windows, as rows of their own.

    Args:
        values: (rows, ...).
        images: how many went through the model.
        layer: its name, for messages.

    Returns:
        The values, or (images, parts, ...) if there are more rows than images.

    Raises:
        ModelError: the rows can't be divided among the images.
    """
    if len(values) == images:
        return values
    if len(values) % images:
        raise ModelError(
            f"the suspect's layer {layer!r} has {len(values)} rows for {images} images, so its activations can't be "
            "told apart by image; use a method that doesn't look at activations"
        )
    parts: Tensor = values.unflatten(0, (images, -1))
    return parts
