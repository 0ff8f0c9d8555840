"""DeepSweep: fine-tuning on augmented images and, on request, another augmentation at inference."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from fedmend.checked_settings import Count, Flag, Fraction, NonNegative, PositiveFraction, settings
from fedmend.detection import Finding
from fedmend.local_training import LocalTraining
from fedmend.repairs.augmentations import affine, gamma, optical_distortion, shrink_and_restore
from fedmend.repairs.base import Candidate, Context, TriggerUse
from fedmend.repairs.repair_report import FineTuningDetails
from fedmend.repairs.server_training import fine_tune, server_images
from fedmend.seeds import derive_seed, generator

BelowHalf = Annotated[float, Field(ge=0, lt=0.5, strict=True)]


@settings
class AugmentationPolicy:
    """Random changes of each image, drawn uniformly: a rotation, a scale and a shift, a bend and a gamma.

    Attributes:
        degrees: largest rotation to either side.
        scale: largest relative change of the size. shift: largest shift, a fraction of the image's side.
        bend: largest optical distortion. gamma: largest change of the exponent, as a power of 2.

    Raises:
        ConfigError: a setting is out of range.
    """

    degrees: NonNegative = 10.0
    scale: BelowHalf = 0.15
    shift: BelowHalf = 0.1
    bend: BelowHalf = 0.25
    gamma: NonNegative = 0.5

    def __call__(self, images: Tensor, rng: torch.Generator) -> Tensor:
        """Float (N, C, H, W) in [0, 1] to new images like them; ``rng`` is on the CPU."""
        drawn = (2 * torch.rand(len(images), 6, generator=rng) - 1).to(images)
        moved = affine(
            images, self.degrees * drawn[:, 0], 1 + self.scale * drawn[:, 1], 2 * self.shift * drawn[:, 2:4]
        )
        bent = optical_distortion(moved, self.bend * drawn[:, 4])
        return gamma(bent, 2 ** (self.gamma * drawn[:, 5]))


class Preprocessed(nn.Module):
    """A model that bends its images and takes out their finest detail before it looks at them.

    Args:
        model: pixels in [0, 1] to logits.
        bend: of the optical distortion. shrink: factor in (0, 1] of the scaling down and back up.
    """

    def __init__(self, model: nn.Module, bend: float, shrink: float) -> None:
        super().__init__()
        self.model, self.bend, self.shrink = model, bend, shrink

    def forward(self, images: Tensor) -> Tensor:
        """Float (N, C, H, W) in [0, 1] to logits (N, classes)."""
        bent = optical_distortion(images, images.new_full((len(images),), self.bend))
        logits: Tensor = self.model(shrink_and_restore(bent, self.shrink))
        return logits


@settings
class DeepSweep:
    """Fine-tune on augmented images, so that what depends on a trigger's exact pixels is forgotten.

    After Qiu et al., "DeepSweep: An Evaluation Framework for Mitigating DNN Backdoor Attacks using Data Augmentation",
    ASIA CCS 2021. By trying 71 augmentations on attacks, the paper chooses two policies: one for fine-tuning, one for
    all images at inference. The policies here are ours: affine changes, optical distortion and gamma for fine-tuning; a
    fixed optical distortion and a loss of detail at inference.

    By default only the weights change, so that the repaired file needs nothing around it, and the gate judges the model
    as it will be used. With ``at_inference`` the candidate is a :class:`Preprocessed` model, which fine-tuning has
    accustomed to it; whoever loads its weights alone has less than the gate judged.

    Attributes:
        policy: of the fine-tuning.
        epochs: passes over the images, each augmented anew.
        training: one of these passes.
        at_inference: return a model that also preprocesses what it is given.
        bend, shrink: of that model.

    Raises:
        ConfigError: a setting is out of range.
    """

    policy: AugmentationPolicy = AugmentationPolicy()
    epochs: Count = 20
    training: LocalTraining = LocalTraining(epochs=1, batch_size=32, lr=0.001)
    at_inference: Flag = False
    bend: Fraction = 0.2
    shrink: PositiveFraction = 0.75

    trigger_use: ClassVar[TriggerUse] = "none"

    def __call__(self, suspect: nn.Module, findings: Sequence[Finding], context: Context) -> Candidate:
        """Fine-tune, whatever was found; see :class:`fedmend.repairs.base.Repair`.

        Raises:
            DataError: labels don't match the images, or a label isn't one of the model's classes.
            ConfigError: the context has no images, or training diverged. ModelError: every parameter is frozen.
        """
        own = server_images(suspect, context, "deep-sweep")
        model = deepcopy(suspect)
        if self.at_inference:
            model = Preprocessed(model, self.bend, self.shrink)
            model.training = suspect.training
        pixels, steps = own.pixels(model), 0
        for epoch in range(self.epochs):
            augmented = self.policy(pixels, generator(context.seed, "augmentation", epoch))
            each = Context(seed=derive_seed(context.seed, "fine-tuning", epoch))
            steps += fine_tune(model, augmented, own.labels, self.training, each)
            context.progress("fine-tuning", epoch + 1, self.epochs)
        summary = f"The model was fine-tuned on {self.epochs} augmentations of {len(own)} images"
        if self.at_inference:
            summary += " and preprocesses what it is given"
        return Candidate(model, summary, FineTuningDetails(steps, len(own)))
