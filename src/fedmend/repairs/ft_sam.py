"""FT-SAM: fine-tuning by sharpness-aware minimisation, whose perturbation grows with each neuron's weight norm."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fedmend.checked_settings import Count, NonNegative, Positive, settings
from fedmend.detection import Finding
from fedmend.inference import evaluating
from fedmend.local_training import BelowOne
from fedmend.repairs.base import Candidate, Context, TriggerUse
from fedmend.repairs.repair_report import FineTuningDetails
from fedmend.repairs.server_training import require_finite, server_images, shuffled, trainable
from fedmend.seeds import generator


@settings
class SharpnessAwareTuning:
    """Fine-tune so that the loss stays low when every neuron's weights are perturbed in proportion to their norm.

    After Zhu et al., "Enhancing Fine-Tuning Based Backdoor Defense with Sharpness-Aware Minimization", ICCV 2023. A
    backdoor's neurons tend to have large norms, and ordinary fine-tuning hardly moves them. Each step first climbs to
    the worst weights within ``||T^-1 e|| <= rho``, where T holds each neuron's norm (see :func:`perturbation`). Then it
    descends from the old weights along the gradient found there.

    Deviations: epochs, learning rate and rho are ours, chosen on small networks; BatchNorm keeps its statistics, and
    dropout is off.

    Attributes:
        rho: size of the perturbation, relative to the neurons' norms.
        epochs: passes over the images. batch_size: images per step.
        lr: learning rate of SGD. momentum: its momentum. weight_decay: its weight decay.

    Raises:
        ConfigError: a setting is out of range.
    """

    rho: Positive = 0.3
    epochs: Count = 20
    batch_size: Count = 32
    lr: Positive = 0.01
    momentum: BelowOne = 0.9
    weight_decay: NonNegative = 0.0

    trigger_use: ClassVar[TriggerUse] = "none"

    def __call__(self, suspect: nn.Module, findings: Sequence[Finding], context: Context) -> Candidate:
        """Fine-tune, whatever was found; see :class:`fedmend.repairs.base.Repair`.

        Raises:
            DataError: labels don't match the images, or a label isn't one of the model's classes.
            ConfigError: the context has no images, or training diverged. ModelError: every parameter is frozen.
        """
        own = server_images(suspect, context, "sharpness-aware fine-tuning")
        model = deepcopy(suspect)
        pixels, parameters = own.pixels(model), trainable(model)
        optimizer = torch.optim.SGD(
            parameters, self.lr, momentum=self.momentum, weight_decay=self.weight_decay
        )
        rng = generator(context.seed, "batches")
        steps = self.epochs * -(-len(own) // self.batch_size)
        with evaluating(model):
            for done, indices in enumerate(shuffled(len(own), self.batch_size, self.epochs, rng), start=1):
                batch = indices.to(pixels.device)
                self._step(model, parameters, optimizer, (pixels[batch], own.labels[batch]))
                context.progress("sharpness-aware fine-tuning", done, steps)
        model.zero_grad()
        require_finite(model, "sharpness-aware fine-tuning")
        summary = f"The model was fine-tuned against perturbed weights on {len(own)} images"
        return Candidate(model, summary, FineTuningDetails(steps, len(own)))

    def _step(
        self,
        model: nn.Module,
        parameters: Sequence[nn.Parameter],
        optimizer: torch.optim.Optimizer,
        batch: tuple[Tensor, Tensor],
    ) -> None:
        """One step of the weights: climb, take the gradient there, come back, descend."""
        climb = perturbation(parameters, _gradients(model, batch, parameters), self.rho)
        before = [parameter.detach().clone() for parameter in parameters]
        with torch.no_grad():
            for parameter, step in zip(parameters, climb, strict=True):
                parameter.add_(step)
        gradients = _gradients(model, batch, parameters)
        with torch.no_grad():
            for parameter, old in zip(parameters, before, strict=True):
                parameter.copy_(old)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()


def perturbation(parameters: Sequence[Tensor], gradients: Sequence[Tensor], rho: float) -> list[Tensor]:
    """The perturbation that raises the loss most, to first order: ``rho T^2 g / ||T g||``.

    Args:
        parameters: the weights. gradients: g, the loss's at them.
        rho: the largest ``||T^-1 e||`` over all parameters together.

    Returns:
        e, one tensor for each parameter; zero if ``T g`` is.
    """
    scales = [neuron_norms(parameter) for parameter in parameters]
    scaled = [scale * gradient for scale, gradient in zip(scales, gradients, strict=True)]
    norm = torch.stack([each.norm() for each in scaled]).norm().clamp_min(1e-12)
    return [rho * scale * each / norm for scale, each in zip(scales, scaled, strict=True)]


def neuron_norms(parameter: Tensor) -> Tensor:
    """T for one parameter: the L2 norm of each neuron's weights, in a shape that multiplies them.

    A neuron is a row of the first dimension. Biases and normalisation weights, of one dimension, have a neuron each.
    """
    values = parameter.detach()
    if values.ndim < 2:
        return values.abs()
    norms: Tensor = torch.linalg.vector_norm(values.flatten(1), dim=1)
    return norms.view(-1, *[1] * (values.ndim - 1))


def _gradients(
    model: nn.Module, batch: tuple[Tensor, Tensor], parameters: Sequence[nn.Parameter]
) -> tuple[Tensor, ...]:
    pixels, labels = batch
    loss = cross_entropy(model(pixels.clone()), labels)
    return torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
