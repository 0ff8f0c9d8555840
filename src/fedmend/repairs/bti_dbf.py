"""BTI-DBF (U): change what the clean predictions don't rest on as far as possible, and unlearn the effect."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fedmend.checked_settings import Count, Positive, settings
from fedmend.detection import Finding
from fedmend.detection.hidden_layers import layers_in_order
from fedmend.inference import evaluating
from fedmend.repairs.base import Candidate, Context, TriggerUse
from fedmend.repairs.benign_features import SplitModel, benign_mask, inversion_loss
from fedmend.repairs.perturbation_generator import PerturbationGenerator
from fedmend.repairs.repair_report import FineTuningDetails
from fedmend.repairs.server_training import require_finite, server_images, shuffled, trainable
from fedmend.seeds import generator

_STAGE = "unlearning inverted triggers"


@dataclass(frozen=True, eq=False)
class _Images:
    """The server's images as the model takes them, their labels, and the order in which batches are drawn."""

    pixels: Tensor
    labels: Tensor
    batch_size: int
    rng: torch.Generator

    def batches(self, epochs: int) -> Sequence[Tensor]:
        """Indices of each batch, on the images' device."""
        drawn = shuffled(len(self.pixels), self.batch_size, epochs, self.rng)
        return [indices.to(self.pixels.device) for indices in drawn]


@settings
class BenignFeatureUnlearning:
    """Decouple the benign features, generate images that differ only in the others, and train on them with true labels.

    After Xu et al., "Towards Reliable and Efficient Backdoor Trigger Inversion via Decoupling Benign Features", ICLR
    2024, of which this is BTI-DBF (U). Each round finds the mask of the features that clean predictions rest on (Eq. 1,
    :func:`benign_mask`); trains a generator whose images keep those features and change the others (Eq. 2,
    :func:`inversion_loss`); and fine-tunes the model on clean and generated images with the true labels.

    Deviations: the features are what the last linear or convolution layer is given; the generator adds a change to the
    image, so it needs no training to reproduce images first; the bound of the change is a root mean square, so that it
    suits images of any size; BatchNorm keeps its statistics, and dropout is off. The numbers are ours, chosen on small
    networks. The method names no target, so findings are ignored; the variant that purifies inputs, BTI-DBF (P), isn't
    here.

    Attributes:
        rounds: of decoupling, inverting and unlearning.
        mask_epochs: passes over the images for the mask. mask_lr: Adam's learning rate of its logits.
        generator_epochs: passes over the images for the generator. generator_lr: Adam's learning rate.
        strength: largest root mean square of a change, for pixels in [0, 1].
        epochs: passes over the images for the model. lr: Adam's learning rate. batch_size: images per step of each.

    Raises:
        ConfigError: a setting is out of range.
    """

    rounds: Count = 5
    mask_epochs: Count = 10
    mask_lr: Positive = 0.1
    generator_epochs: Count = 10
    generator_lr: Positive = 0.01
    strength: Positive = 0.15
    epochs: Count = 2
    lr: Positive = 0.001
    batch_size: Count = 64

    trigger_use: ClassVar[TriggerUse] = "none"

    def __call__(self, suspect: nn.Module, findings: Sequence[Finding], context: Context) -> Candidate:
        """Unlearn, whatever was found; see :class:`fedmend.repairs.base.Repair`.

        Raises:
            DataError: labels don't match the images, or a label isn't one of the model's classes.
            ConfigError: the context has no images, or training diverged.
            ModelError: every parameter is frozen, or the model runs no linear or convolution layer.
        """
        own = server_images(suspect, context, "unlearning by decoupled features")
        model = deepcopy(suspect)
        parameters = trainable(model)
        images = _Images(own.pixels(model), own.labels, self.batch_size, generator(context.seed, "batches"))
        optimizer = torch.optim.Adam(parameters, self.lr)
        changing = PerturbationGenerator(images.pixels, self.strength, generator(context.seed, "generator"))
        descent = torch.optim.Adam(changing.weights, self.generator_lr)
        steps = 0
        with evaluating(model):
            split = SplitModel(model, layers_in_order(model, images.pixels[:1])[-1])
            for done in range(1, self.rounds + 1):
                mask = benign_mask(
                    split,
                    (images.pixels, images.labels),
                    iter(images.batches(self.mask_epochs)),
                    self.mask_lr,
                )
                self._invert(split, changing, mask, descent, images)
                steps += self._unlearn(model, changing, optimizer, images)
                context.progress(_STAGE, done, self.rounds)
        model.zero_grad()
        require_finite(model, "unlearning by decoupled features")
        summary = f"Changes of the features that clean predictions don't rest on were unlearned on {len(own)} images"
        return Candidate(model, summary, FineTuningDetails(steps, len(own)))

    def _invert(
        self,
        split: SplitModel,
        changing: PerturbationGenerator,
        mask: Tensor,
        descent: torch.optim.Optimizer,
        images: _Images,
    ) -> None:
        """Train the generator."""
        for batch in images.batches(self.generator_epochs):
            clean = images.pixels[batch]
            with torch.no_grad():
                kept = split.features(clean)
            loss = inversion_loss(kept, split.features(changing(clean)), mask)
            gradients = torch.autograd.grad(loss, changing.weights)
            for weight, gradient in zip(changing.weights, gradients, strict=True):
                weight.grad = gradient
            descent.step()

    def _unlearn(
        self,
        model: nn.Module,
        changing: PerturbationGenerator,
        optimizer: torch.optim.Optimizer,
        images: _Images,
    ) -> int:
        """Train the model; returns the number of steps."""
        batches = images.batches(self.epochs)
        for batch in batches:
            clean, labels = images.pixels[batch], images.labels[batch]
            with torch.no_grad():
                changed = changing(clean)
            optimizer.zero_grad()
            loss = cross_entropy(model(clean.clone()), labels) + cross_entropy(model(changed), labels)
            loss.backward()
            optimizer.step()
        return len(batches)
