"""A model's features, and the mask of those that its clean predictions rest on (BTI-DBF, Section 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fedmend.detection.search.adam import Adam


class SplitModel:
    """A model as a feature extractor and a head: the head begins with one of the model's layers.

    Args:
        model: its weights may change between calls.
        layer: the name of the head's first layer, as in ``named_modules``. The features are what it is given.
    """

    def __init__(self, model: nn.Module, layer: str) -> None:
        self._model, self._head = model, model.get_submodule(layer)

    def features(self, images: Tensor) -> Tensor:
        """The features of the images (N, C, H, W): (N, ...); differentiable."""
        given: list[Tensor] = []
        self._run(images, lambda features: given.append(features))
        return given[-1]

    def logits(self, images: Tensor, mask: Tensor) -> Tensor:
        """The logits of the images (N, C, H, W) when the features are multiplied by the mask: (N, classes)."""
        return self._run(images, lambda features: features * mask)

    def _run(self, images: Tensor, change: Callable[[Tensor], Tensor | None]) -> Tensor:
        def before(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
            changed = change(inputs[0])
            return None if changed is None else (changed, *inputs[1:])

        handle = self._head.register_forward_pre_hook(before)
        try:
            logits: Tensor = self._model(images.clone())  # a model may work in place
        finally:
            handle.remove()
        return logits


def benign_mask(
    model: SplitModel, data: tuple[Tensor, Tensor], batches: Iterator[Tensor], lr: float
) -> Tensor:
    """The mask of the benign features, each in [0, 1], in the shape of one image's features (Eq. 1).

    It minimises ``L(head(features * m), y) - L(head(features * (1 - m)), y)``: with the benign features alone the model
    should be right, and without them wrong. It starts at a half everywhere.

    Args:
        model: its weights get no gradient.
        data: images (N, C, H, W) and labels, int64 (N,).
        batches: indices of the images of each step.
        lr: Adam's learning rate of the mask's logits.
    """
    images, labels = data
    with torch.no_grad():
        values = torch.zeros_like(model.features(images[:1])[0])
    adam = Adam(values)
    for indices in batches:
        batch = indices.to(images.device)
        leaf = values.detach().clone().requires_grad_()
        mask = leaf.sigmoid()
        benign, rest = (model.logits(images[batch], part) for part in (mask, 1 - mask))
        loss = cross_entropy(benign, labels[batch]) - cross_entropy(rest, labels[batch])
        (gradient,) = torch.autograd.grad(loss, leaf)
        adam.step(gradient, lr)
    return values.sigmoid()


def inversion_loss(clean: Tensor, changed: Tensor, mask: Tensor) -> Tensor:
    """How far the benign features move, less how far the others do, as L2 norms: the mean over the images (Eq. 2).

    Args:
        clean, changed: features of images and of their changed versions, (N, ...).
        mask: of the benign features, (...).
    """
    moved = changed - clean
    benign, rest = (torch.linalg.vector_norm((moved * part).flatten(1), dim=1) for part in (mask, 1 - mask))
    loss: Tensor = (benign - rest).mean()
    return loss
