"""Images for a search that has none, by inverting the model (DeepInspect, step 1)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fedmend.detection.search.adam import Adam
from fedmend.progress import Progress, silent

_STAGE = "model inversion"
_LR = 0.3
_SMOOTH = 0.1


def inverted_images(
    logits: Callable[[Tensor], Tensor],
    labels: Tensor,
    shape: tuple[int, int, int],
    steps: int,
    rng: torch.Generator,
    progress: Progress = silent,
) -> Tensor:
    """Images that the model takes for the given classes: float (N, C, H, W) in [0, 1].

    From noise, Adam minimises ``1 - p + a * s``: one minus the softmax of the class, as M. Fredrikson et al. do, and as
    auxiliary information about images the mean squared difference of neighbouring pixels.

    Args:
        logits: the model: images to (N, classes), differentiable, and with no gradient at its weights.
        labels: the class of each image, int64 (N,), on the model's device.
        shape: of an image, (C, H, W).
        steps: of Adam.
        rng: on the CPU.
        progress: called as ``progress("model inversion", step, steps)``.
    """
    values = torch.randn(len(labels), *shape, generator=rng).to(labels.device)
    adam = Adam(values)
    for step in range(1, steps + 1):
        leaf = values.sigmoid().requires_grad_()
        with torch.enable_grad():
            wrong = 1 - logits(leaf).softmax(1).gather(1, labels[:, None])[:, 0]
            (gradient,) = torch.autograd.grad((wrong + _SMOOTH * roughness(leaf)).sum(), leaf)
        pixels = leaf.detach()
        adam.step(gradient * pixels * (1 - pixels), _LR)
        progress(_STAGE, step, steps)
    return values.sigmoid()


def roughness(images: Tensor) -> Tensor:
    """The mean squared difference of neighbouring pixels, down plus across, of each of (N, C, H, W): (N,)."""
    down = (images[:, :, 1:] - images[:, :, :-1]).square().mean((1, 2, 3))
    return down + (images[..., 1:] - images[..., :-1]).square().mean((1, 2, 3))
