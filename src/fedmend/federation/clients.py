"""Clients of a federation, honest or with an attack or lies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from fedmend.attacks import Attack, Lies
from fedmend.detection import FoundTrigger, few_pixel_triggers, larger_triggers, moved
from fedmend.local_training import LocalTraining
from fedmend.parameters import flatten
from fedmend.pruning import accuracies_along, mean_activations
from fedmend.seeds import derive_seed
from fedmend.triggers import stamp_stored


@dataclass(frozen=True, eq=False)
class ClientUpdate:
    """What a client sends after training.

    Attributes:
        client_id: its number.
        num_examples: the number of training examples that it reports.
        delta: the change of the model as a flat vector, (P,) (see ``fedmend.parameters``).
    """

    client_id: int
    num_examples: int
    delta: Tensor


class Task(Protocol):
    """What an honest client does in a round, such as :class:`~fedmend.local_training.LocalTraining`."""

    @property
    def training(self) -> LocalTraining:
        """The local training of attackers without one of their own."""
        ...

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> None:
        """Change ``model`` in place.

        Args:
            model: holds the global weights.
            images: the client's, uint8 (N, C, H, W), on the model's device.
            labels: int64 (N,), on the same device.
            seed: of all randomness.
        """
        ...


@dataclass(frozen=True, eq=False)
class Client:
    """One participant.

    Attributes:
        client_id: its number, from 0.
        images: its clean training images, uint8 (N, C, H, W).
        labels: their true classes, int64 (N,).
        attack: what it does instead of the task; None: it trains honestly.
        lies: its replies when asked about the model, and its updates in a repair; None: it is honest.
    """

    client_id: int
    images: Tensor
    labels: Tensor
    attack: Attack | None = None
    lies: Lies | None = None

    def fit(self, model: nn.Module, task: Task, seed: int) -> ClientUpdate:
        """Do the task, or attack.

        An attacker reports only its clean examples; a larger number would give it away. A lying client that doesn't
        attack does the task, unless that has a ``teacher``: from it the client knows the suspect.

        Args:
            model: holds the global weights; changed in place.
            task: what an honest client does.
            seed: of all randomness.

        Raises:
            ModelError: training diverged.
        """
        teacher = getattr(task, "teacher", None)
        if self.attack is not None:
            delta = self.attack.fit(model, self.images, self.labels, task.training, seed)
        elif self.lies is not None and isinstance(teacher, nn.Module):
            delta = self.lies.update(flatten(model.state_dict()), flatten(teacher.state_dict()))
        else:
            before = flatten(model.state_dict())
            task(model, self.images, self.labels, derive_seed(seed, "train"))
            delta = flatten(model.state_dict()) - before
        return ClientUpdate(self.client_id, len(self.images), delta)

    def triggers(self, model: nn.Module, seed: int) -> list[FoundTrigger]:
        """The triggers that it finds in the model; an attacker reports none, and a lying client makes some up.

        See :func:`fedmend.detection.few_pixel_triggers` and :func:`fedmend.detection.larger_triggers`.
        """
        if self.lies is not None:
            made_up = self.lies.triggers(self.labels, tuple(self.images.shape[1:]), seed)
            return [FoundTrigger(*trigger) for trigger in made_up]
        if self.attack is not None:
            return []
        return [
            *few_pixel_triggers(model, self.images, self.labels, seed=seed),
            *larger_triggers(model, self.images, self.labels, seed=seed),
        ]

    def successes(self, model: nn.Module, triggers: Sequence[FoundTrigger]) -> Tensor:
        """How well triggers work in the model on its images, float64 (n,); NaN where it has none of the source class.

        See :func:`fedmend.detection.moved`.
        """
        if self.lies is not None:
            return self.lies.successes(len(triggers))
        rates = []
        for each in triggers:
            own = self.images[self.labels == each.source_class]
            rate = moved(model, each.trigger, own, each.source_class, each.target_class)
            rates.append(rate if len(own) else math.nan)
        return torch.tensor(rates, dtype=torch.float64)

    def activations(self, model: nn.Module, layer: str) -> Tensor:
        """Mean activation of each channel of a layer on its images, (C,), for its ballots."""
        clean = mean_activations(model, self.images, layer)
        if self.lies is None:
            return clean
        stamped = stamp_stored(self.lies.trigger, self.images)
        return self.lies.activations(clean, mean_activations(model, stamped, layer))

    def accuracies(
        self, model: nn.Module, layer: str, sequence: Sequence[int], points: Sequence[int]
    ) -> Tensor:
        """Its accuracy at each point of a pruning sequence, (points,).

        See :func:`fedmend.pruning.accuracies_along`.
        """
        if self.lies is not None:
            return self.lies.accuracies(len(points))
        return accuracies_along(model, sequence, points, self.images, self.labels, layer=layer)
