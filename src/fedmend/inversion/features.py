"""Models as an inversion sees them: with frozen weights, and for the features of one layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TypeAlias

from torch import Tensor, nn

from fedmend.errors import ModelError
from fedmend.metrics import evaluating

Answers: TypeAlias = tuple[Tensor, Tensor]
"""Features (N, F) and logits (N, classes)."""


@contextmanager
def frozen(*models: nn.Module) -> Iterator[None]:
    """Models in eval mode whose weights need no gradients; both are put back at the end."""
    parameters = list({id(p): p for model in models for p in model.parameters()}.values())
    needed = [parameter.requires_grad for parameter in parameters]
    with ExitStack() as stack:
        for model in models:
            stack.enter_context(evaluating(model))
        try:
            for parameter in parameters:
                parameter.requires_grad_(False)
            yield
        finally:
            for parameter, need in zip(parameters, needed, strict=True):
                parameter.requires_grad_(need)


class FeatureMap:
    """Calls a model for its features and its logits at once.

    Args:
        model: any module that returns logits (N, classes).
        layer: "logits", or the name of a submodule (of ``model.named_modules()``) whose output, flattened, is the
            features.

    Raises:
        ModelError: there is no such submodule, or it isn't used or returns something else than a tensor.
    """

    def __init__(self, model: nn.Module, layer: str = "logits") -> None:
        modules = dict(model.named_modules())
        if layer != "logits" and layer not in modules:
            known = ", ".join([name for name in modules if name][-8:])
            raise ModelError(
                f"the model has no layer {layer!r}; take logits or one of its own, such as {known}"
            )
        self._model = model
        self._module = None if layer == "logits" else modules[layer]
        self._layer = layer

    def __call__(self, images: Tensor) -> Answers:
        """Features (N, F) and logits (N, classes) of images (N, C, H, W), which stay as they are."""
        images = images.clone()  # a model may work in place
        if self._module is None:
            logits: Tensor = self._model(images)
            return logits, logits
        caught: list[object] = []
        handle = self._module.register_forward_hook(lambda _module, _inputs, output: caught.append(output))
        try:
            logits = self._model(images)
        finally:
            handle.remove()
        features = caught[-1] if caught else None
        if not isinstance(features, Tensor):
            raise ModelError(f"the layer {self._layer!r} gave no tensor; choose another, or logits")
        return features.flatten(1), logits
