"""An attacker that trains against the scan's own loss: patches descend it while its model climbs it."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import torch
from benchmarks.guard.scan_aware import classes
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fedmend.attacks import AttackData
from fedmend.checked_settings import Count, Positive, PositiveFraction, settings
from fedmend.detection import contrast
from fedmend.inference import evaluating
from fedmend.local_training import LocalTraining
from fedmend.pixels import to_float
from fedmend.seeds import generator

_CONTRAST = 2.0
"""Weight of the contrastive loss, as in the default detector."""


@settings
class LossAware:
    """Add the scan's loss to the attacker's own, with the opposite sign.

    In each training step a few patches descend the default detector's loss: the cross-entropy of the attacker's target
    in the model, plus twice the contrastive loss between its logits and the global model's. The model then climbs that
    loss at these patches, up to a limit, beside learning the trigger. Patches stay from step to step.

    Attributes:
        weight: of the scan's loss.
        patches: how many.
        area: of the image, in (0, 1], that a patch covers at most.
        step: by which a pixel of a mask or a pattern changes.
        images: in each step, for each patch.
        limit: from which on a patch's loss is high enough.
    """

    weight: Positive = 1.0
    patches: Count = 4
    area: PositiveFraction = 0.03
    step: Positive = 0.05
    images: Count = 16
    limit: Positive = 4.0

    def __call__(self, model: nn.Module, data: AttackData, training: LocalTraining, seed: int) -> None:
        """See :class:`fedmend.attacks.AttackMethod`."""
        target = int(classes(data.wanted).mode().values)
        others = data.images[classes(data.labels) != target]
        steering = _Climbing(self, deepcopy(model).eval(), to_float(others), target, seed)
        training(model, *data.mixed, seed, steering)


@dataclass(eq=False)
class _Climbing:
    """The steering of :class:`LossAware`.

    Attributes:
        chosen: the settings.
        before: the global model.
        pixels: clean images of other classes than the target, float (N, C, H, W) in [0, 1].
        target: class.
        seed: of the patches and of the images in each step.
    """

    chosen: LossAware
    before: nn.Module
    pixels: Tensor
    target: int
    seed: int

    def __post_init__(self) -> None:
        self._rng = generator(self.seed, "patches")
        shape = (self.chosen.patches, *self.pixels.shape[1:])
        self._patterns = torch.rand(shape, generator=self._rng)
        self._masks = self._limited(torch.rand(shape[0], 1, *shape[2:], generator=self._rng))

    def loss(self, model: nn.Module, loss: Tensor) -> Tensor:
        """See :class:`fedmend.local_training.Steering`."""
        drawn = torch.randint(len(self.pixels), (self.chosen.images,), generator=self._rng)
        with evaluating(model):
            self._descend(model, self.pixels[drawn])
            scans = self._scan_loss(model, self.pixels[drawn], self._masks, self._patterns)
        return loss + self.chosen.weight * (self.chosen.limit - scans).clamp(min=0).mean()

    def before_step(self, model: nn.Module) -> None:
        """Gradients stay as they are."""

    def _descend(self, model: nn.Module, pixels: Tensor) -> None:
        masks, patterns = self._masks.requires_grad_(), self._patterns.requires_grad_()
        gradients = torch.autograd.grad(
            self._scan_loss(model, pixels, masks, patterns).sum(), (masks, patterns)
        )
        with torch.no_grad():
            mask, pattern = (
                (each - self.chosen.step * gradient.sign()).clamp(0, 1)
                for each, gradient in zip((masks, patterns), gradients, strict=True)
            )
        self._masks, self._patterns = self._limited(mask), pattern

    def _limited(self, masks: Tensor) -> Tensor:
        most = self.chosen.area * masks[0].numel()
        return masks * (most / masks.sum((1, 2, 3), keepdim=True).clamp(min=1e-6)).clamp(max=1)

    def _scan_loss(self, model: nn.Module, pixels: Tensor, masks: Tensor, patterns: Tensor) -> Tensor:
        stamped = (1 - masks[:, None]) * pixels + (masks * patterns)[:, None]
        size, flat = stamped.shape[:2], stamped.flatten(0, 1)
        after, reference = model(flat), self.before(flat)
        with torch.no_grad():
            clean = model(pixels).expand(size[0], -1, -1)
        wanted = torch.full((len(flat),), self.target)
        fires = cross_entropy(after, wanted, reduction="none").unflatten(0, size).mean(1)
        return fires + _CONTRAST * contrast(reference.unflatten(0, size), clean, after.unflatten(0, size))
