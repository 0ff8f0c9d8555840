"""Implicit backdoor adversarial unlearning (I-BAU): unlearn the worst perturbation that all images share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fedmend.checked_settings import Count, Fraction, Natural, Positive, settings
from fedmend.detection import Finding
from fedmend.inference import evaluating
from fedmend.repairs.base import Candidate, Context, TriggerUse
from fedmend.repairs.repair_report import FineTuningDetails
from fedmend.repairs.server_training import require_finite, server_images, shuffled, trainable
from fedmend.seeds import generator


@settings
class AdversarialUnlearning:
    """Minimise, over the weights, the loss under the worst perturbation of a bounded norm that all images share.

    After Zeng et al., "Adversarial Unlearning of Backdoors via Implicit Hypergradient", ICLR 2022:
    ``min_theta max_delta H(delta, theta)``, where ``H`` is the mean loss of ``x + delta`` and ``||delta|| <= C``. Each
    round first finds delta by projected gradient ascent. Then steps on theta follow the implicit hypergradient, which
    allows for delta's dependence on theta (see :func:`hypergradient`).

    Deviations: the bound is a root mean square, so that it suits images of any size; the ascent's gradients are
    normalised, since a confident model's are tiny; the outer loss also has clean images, to keep the accuracy;
    BatchNorm keeps its statistics, and dropout is off. Bound, rounds and learning rate are ours, chosen on small
    networks.

    Attributes:
        rounds: of finding delta and unlearning it.
        strength: largest root mean square of delta, for pixels in [0, 1]: an L2 norm of 5.5 for 3x32x32.
        ascent_steps: of the search for delta, over batches in turn. ascent_rate: their size, a fraction of the bound.
        iterations: of the hypergradient's fixed-point equation; 0: delta counts as a constant.
        contraction: step size of the ascent that the fixed-point equation differentiates.
        clean_weight: weight in [0, 1] of the clean loss in the outer loss; 0 is the paper's.
        batch_size: images per step. lr: Adam's learning rate for the weights.

    Raises:
        ConfigError: a setting is out of range.
    """

    rounds: Count = 5
    strength: Positive = 0.1
    ascent_steps: Count = 20
    ascent_rate: Positive = 0.2
    iterations: Natural = 5
    contraction: Positive = 0.1
    clean_weight: Fraction = 0.5
    batch_size: Count = 64
    lr: Positive = 0.0005

    trigger_use: ClassVar[TriggerUse] = "none"

    def __call__(self, suspect: nn.Module, findings: Sequence[Finding], context: Context) -> Candidate:
        """Unlearn, whatever was found; see :class:`fedmend.repairs.base.Repair`.

        Raises:
            DataError: labels don't match the images, or a label isn't one of the model's classes.
            ConfigError: the context has no images, or training diverged. ModelError: every parameter is frozen.
        """
        own = server_images(suspect, context, "adversarial unlearning")
        model = deepcopy(suspect)
        pixels, parameters = own.pixels(model), trainable(model)
        optimizer = torch.optim.Adam(parameters, self.lr)
        rng = generator(context.seed, "batches")
        steps = 0
        with evaluating(model):
            for done in range(1, self.rounds + 1):
                delta = self._worst(model, (pixels, own.labels), rng)
                for indices in shuffled(len(pixels), self.batch_size, 1, rng):
                    batch = indices.to(pixels.device)
                    gradients = self._gradients(model, (pixels[batch], own.labels[batch]), delta, parameters)
                    for parameter, gradient in zip(parameters, gradients, strict=True):
                        parameter.grad = gradient
                    optimizer.step()
                    steps += 1
                context.progress("adversarial unlearning", done, self.rounds)
        model.zero_grad()
        require_finite(model, "adversarial unlearning")
        summary = (
            f"The worst shared perturbations of {self.rounds} rounds were unlearned on {len(own)} images"
        )
        return Candidate(model, summary, FineTuningDetails(steps, len(own)))

    def _worst(self, model: nn.Module, data: tuple[Tensor, Tensor], rng: torch.Generator) -> Tensor:
        """Projected gradient ascent from zero: the perturbation (C, H, W) that raises the loss most."""
        pixels, labels = data
        delta = torch.zeros_like(pixels[0])
        radius = self.strength * delta.numel() ** 0.5
        done = 0
        while done < self.ascent_steps:
            for indices in shuffled(len(pixels), self.batch_size, 1, rng):
                if done == self.ascent_steps:
                    break
                batch = indices.to(pixels.device)
                delta.requires_grad_()
                loss = cross_entropy(model(pixels[batch] + delta), labels[batch])
                (gradient,) = torch.autograd.grad(loss, delta)
                delta = ascended(delta.detach(), gradient, self.ascent_rate * radius, radius)
                done += 1
        return delta

    def _gradients(
        self,
        model: nn.Module,
        batch: tuple[Tensor, Tensor],
        delta: Tensor,
        parameters: Sequence[Tensor],
    ) -> list[Tensor]:
        """The outer loss's gradient at the weights for one batch."""
        pixels, labels = batch

        def attacked(shift: Tensor) -> Tensor:
            return cross_entropy(model(pixels + shift), labels)

        def outer(shift: Tensor) -> Tensor:
            clean = cross_entropy(model(pixels.clone()), labels)
            return self.clean_weight * clean + (1 - self.clean_weight) * attacked(shift)

        def ascent(shift: Tensor) -> Tensor:
            (gradient,) = torch.autograd.grad(attacked(shift), shift, create_graph=True)
            return shift + self.contraction * gradient

        return hypergradient(outer, ascent, delta, parameters, self.iterations)


def ascended(delta: Tensor, gradient: Tensor, step: float, radius: float) -> Tensor:
    """A step of length ``step`` along the gradient, projected onto the L2 ball of this radius."""
    moved = delta + step * gradient / torch.linalg.vector_norm(gradient).clamp_min(1e-12)
    shrunk: Tensor = moved * (radius / torch.linalg.vector_norm(moved).clamp_min(1e-12)).clamp(max=1)
    return shrunk


def hypergradient(
    outer: Callable[[Tensor], Tensor],
    mapping: Callable[[Tensor], Tensor],
    delta: Tensor,
    parameters: Sequence[Tensor],
    iterations: int,
) -> list[Tensor]:
    """The gradient of ``outer(delta(theta), theta)`` at theta, where delta solves ``delta = mapping(delta, theta)``.

    By the implicit function theorem it is ``d outer/d theta + (d mapping/d theta)^T v``, where ``v`` solves
    ``v = (d mapping/d delta)^T v + d outer/d delta``. That is iterated from 0.

    Args:
        outer: a scalar of delta and the parameters.
        mapping: one step of the inner problem's ascent, differentiable in delta and the parameters.
        delta: the solution found; left as found.
        parameters: theta. iterations: 0 gives the gradient with delta held.

    Returns:
        One tensor for each parameter.
    """
    point = delta.detach().clone().requires_grad_()
    toward, *direct = torch.autograd.grad(
        outer(point), [point, *parameters], allow_unused=True, materialize_grads=True
    )
    if not iterations:
        return direct
    mapped = mapping(point)
    vector = torch.zeros_like(point)
    for _ in range(iterations):
        (carried,) = torch.autograd.grad(
            mapped, point, vector, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        vector = carried + toward
    through = torch.autograd.grad(mapped, parameters, vector, allow_unused=True, materialize_grads=True)
    return [held + indirect for held, indirect in zip(direct, through, strict=True)]
