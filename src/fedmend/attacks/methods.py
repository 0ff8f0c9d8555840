"""How an attacker trains: the interface of attack methods, and what they share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from fedmend.local_training import LocalTraining
from fedmend.parameters import flatten, parameter_mask, unflatten


@dataclass(frozen=True, eq=False)
class AttackData:
    """An attacker's images in a round.

    Attributes:
        images: clean, uint8 (N, C, H, W).
        labels: their true classes, int64 (N,), or soft labels, float (N, classes).
        poisoned: what the goal wants learned, uint8 (M, C, H, W); M may be 0.
        wanted: their labels, of the same kind.
        truth: the clean images' true classes, int64 (N,), for what an honest client would do.
    """

    images: Tensor
    labels: Tensor
    poisoned: Tensor
    wanted: Tensor
    truth: Tensor

    @property
    def mixed(self) -> tuple[Tensor, Tensor]:
        """All images with their labels, the clean ones first."""
        return torch.cat([self.images, self.poisoned]), torch.cat([self.labels, self.wanted])


class AttackMethod(Protocol):
    """How an attacker trains on its clean and poisoned images."""

    def __call__(self, model: nn.Module, data: AttackData, training: LocalTraining, seed: int) -> None:
        """Train.

        Args:
            model: holds the global weights; changed in place.
            data: the attacker's images, on the model's device.
            training: its settings.
            seed: of all randomness.

        Raises:
            DivergedError: training diverged.
        """
        ...


class Penalty:
    """A :class:`fedmend.local_training.Steering` that only changes the loss.

    Args:
        combined: the batch's loss and the model's parameters as one differentiable vector to what is minimised.
    """

    def __init__(self, combined: Callable[[Tensor, Tensor], Tensor]) -> None:
        self._combined = combined

    def loss(self, model: nn.Module, loss: Tensor) -> Tensor:
        """See :class:`fedmend.local_training.Steering`."""
        return self._combined(loss, parameter_vector(model))

    def before_step(self, model: nn.Module) -> None:
        """Gradients stay as they are."""


def parameter_vector(model: nn.Module) -> Tensor:
    """The model's parameters as one vector, through which gradients flow."""
    return torch.cat([parameter.flatten() for parameter in model.parameters()])


def length(vector: Tensor) -> Tensor:
    """The L2 norm, with a gradient of 0 at the origin, where the norm has none."""
    return (vector.square().sum() + 1e-12).sqrt()


def set_weights(model: nn.Module, weights: Tensor) -> None:
    """Replace the model's float entries by a vector (P,) (see ``fedmend.parameters``)."""
    model.load_state_dict(unflatten(weights, model.state_dict()))


def scale_change(model: nn.Module, before: Tensor, factor: float) -> None:
    """Multiply the parameters' change since ``before``, (P,), by a factor; buffers stay as they are."""
    after = flatten(model.state_dict())
    moved = before + factor * (after - before)
    set_weights(model, moved.where(parameter_mask(model).to(after.device), after))
