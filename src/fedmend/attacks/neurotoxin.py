"""Neurotoxin: a backdoor in the parameters that honest clients change least, so that it outlasts the attack."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fedmend.attacks.methods import AttackData
from fedmend.checked_settings import Fraction, settings
from fedmend.inference import batch_size_for, evaluating
from fedmend.local_training import LocalTraining
from fedmend.pixels import to_float


@settings
class Neurotoxin:
    """Train with the gradient projected away from the coordinates in which honest gradients are largest.

    Zhang et al., "Neurotoxin: Durable Backdoors in Federated Learning" (2022), Algorithm 1. Deviations: honest
    gradients are estimated by the gradient of the global model's loss on this attacker's clean images with their true
    classes, not by the last round's update; and those coordinates end as they were, whatever the optimizer's weight
    decay does.

    Attributes:
        fraction: of the parameters, those with the largest gradients, that stay as they are; the paper's k, 0.05 to
            0.1.
    """

    fraction: Fraction = 0.05

    def __call__(self, model: nn.Module, data: AttackData, training: LocalTraining, seed: int) -> None:
        """See :class:`fedmend.attacks.AttackMethod`."""
        before = [parameter.detach().clone() for parameter in model.parameters()]
        projection = _Projection(small_gradients(model, data, self.fraction))
        training(model, *data.mixed, seed, projection)
        with torch.no_grad():
            for parameter, old, free in zip(model.parameters(), before, projection.free, strict=True):
                parameter.copy_(torch.where(free, parameter, old))


class _Projection:
    """Sets gradients to zero outside of the free coordinates."""

    def __init__(self, free: list[Tensor]) -> None:
        self.free = free

    def loss(self, model: nn.Module, loss: Tensor) -> Tensor:
        return loss

    def before_step(self, model: nn.Module) -> None:
        for parameter, free in zip(model.parameters(), self.free, strict=True):
            if parameter.grad is not None:
                parameter.grad.mul_(free)


def small_gradients(model: nn.Module, data: AttackData, fraction: float) -> list[Tensor]:
    """For each parameter, where its gradient on the clean images isn't among the largest ``fraction`` of all: bool.

    The model's gradients are cleared; its modes and buffers stay as they are.
    """
    model.zero_grad()
    with evaluating(model), torch.enable_grad():
        size = batch_size_for(data.images)
        for images, labels in zip(data.images.split(size), data.truth.split(size), strict=True):
            cross_entropy(model(to_float(images)), labels, reduction="sum").backward()
    sizes = [
        torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.abs()
        for parameter in model.parameters()
    ]
    model.zero_grad()
    everything = torch.cat([each.flatten() for each in sizes])
    count = round(fraction * len(everything))
    if count == 0:
        return [torch.ones_like(each, dtype=torch.bool) for each in sizes]
    held = torch.zeros_like(everything, dtype=torch.bool)
    held[everything.topk(count).indices] = True
    parts = held.split([each.numel() for each in sizes])
    return [~part.view(each.shape) for part, each in zip(parts, sizes, strict=True)]
