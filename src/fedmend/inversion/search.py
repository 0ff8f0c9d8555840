"""The search that inversion methods share: a mask and a pattern, learned by gradient descent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedmend.errors import ModelError
from fedmend.metrics import evaluating
from fedmend.progress import Progress, silent
from fedmend.triggers import Trigger


@dataclass(frozen=True, eq=False)
class Recovered:
    """What a search ended with.

    Attributes:
        trigger: the recovered mask and pattern, on the images' device.
        loss_curve: the loss of each step.
        stop_reason: why the search ended, in words.
        converged: False if the loss was still falling when the steps were used up.
    """

    trigger: Trigger
    loss_curve: tuple[float, ...]
    stop_reason: str
    converged: bool


@contextmanager
def frozen(*models: nn.Module) -> Iterator[None]:
    """Models in eval mode whose weights need no gradients; both are put back at the end."""
    parameters = [parameter for model in models for parameter in model.parameters()]
    needed = [parameter.requires_grad for parameter in parameters]
    with ExitStack() as stack:
        for model in models:
            stack.enter_context(evaluating(model))
        for parameter in parameters:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter, need in zip(parameters, needed, strict=True):
                parameter.requires_grad_(need)


class FeatureMap:
    """Calls a model for its features and its logits at once.

    Args:
        model: any module that returns logits (N, classes).
        layer: "logits", or the name of a submodule (``model.named_modules()``) whose output, flattened, is the
            features.

    Raises:
        ModelError: there is no such submodule.
    """

    def __init__(self, model: nn.Module, layer: str) -> None:
        modules = dict(model.named_modules())
        if layer != "logits" and layer not in modules:
            known = ", ".join([name for name in modules if name][-8:])
            raise ModelError(f"the model has no layer {layer!r}; take logits or one of its own, such as {known}")
        self._model = model
        self._module = None if layer == "logits" else modules[layer]

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, F) and logits (N, classes) of images (N, C, H, W)."""
        if self._module is None:
            logits = self._model(images)
            return logits, logits
        caught: list[Tensor] = []
        handle = self._module.register_forward_hook(lambda _module, _inputs, output: caught.append(output))
        try:
            logits = self._model(images)
        finally:
            handle.remove()
        return caught[-1].flatten(1), logits


@dataclass
class Best:
    """The best trigger of a search so far, kept as copies."""

    mask: Tensor | None = None
    pattern: Tensor | None = None
    score: float = float("-inf")

    def offer(self, score: float, mask: Tensor, pattern: Tensor) -> bool:
        """Keep this one if its score is higher; says whether it was kept."""
        if score <= self.score:
            return False
        self.mask, self.pattern, self.score = mask.detach().clone(), pattern.detach().clone(), score
        return True
