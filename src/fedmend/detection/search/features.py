"""A model's features at one layer, with its logits."""

from __future__ import annotations

from typing import TypeAlias

from torch import Tensor, nn

from fedmend.errors import ModelError

_FAR = 5.0

Outputs: TypeAlias = tuple[Tensor, Tensor]
"""Features (N, F) and logits (N, classes)."""


class FeatureMap:
    """Runs a model once for both its features and its logits.

    Args:
        model: any module that returns logits (N, classes).
        layer: "logits", or the name of a submodule, as in ``model.named_modules()``. Its flattened output is the
            features.
        centred: subtract each image's mean from its logits, which changes no prediction.

    Raises:
        ModelError: there is no such submodule, it isn't used, or it doesn't return a tensor.
    """

    def __init__(self, model: nn.Module, layer: str = "logits", *, centred: bool = False) -> None:
        modules = dict(model.named_modules())
        if layer != "logits" and layer not in modules:
            known = ", ".join([name for name in modules if name][-8:])
            raise ModelError(
                f"the model has no layer {layer!r}; choose 'logits' or one of its own, such as {known}"
            )
        self._model = model
        self._module = None if layer == "logits" else modules[layer]
        self._layer, self._centred = layer, centred

    def __call__(self, images: Tensor) -> Outputs:
        """Features (N, F) and logits (N, classes) of images (N, C, H, W), which are left as they are."""
        images = images.clone()  # a model may work in place
        if self._module is None:
            logits: Tensor = self._model(images)
            logits = about_zero(logits) if self._centred else logits
            return logits, logits
        caught: list[object] = []
        handle = self._module.register_forward_hook(lambda _module, _inputs, output: caught.append(output))
        try:
            logits = self._model(images)
        finally:
            handle.remove()
        features = caught[-1] if caught else None
        if not isinstance(features, Tensor):
            raise ModelError(f"the layer {self._layer!r} returned no tensor; choose another, or 'logits'")
        return features.flatten(1), logits


def about_zero(logits: Tensor) -> Tensor:
    """Logits (N, classes) minus each image's mean."""
    return logits - logits.mean(1, keepdim=True)


def far_from_zero(logits: Tensor) -> bool:
    """Whether logits (N, classes) have a large common part, which hides how they differ from measures of direction.

    A number added to all of them changes no prediction, so a stranger's model can have any.
    """
    return bool(logits.mean(1).abs().median() > _FAR * about_zero(logits).abs().max())
