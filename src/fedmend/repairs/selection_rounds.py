"""Rounds of fine-tuning in which attackers take part but have little say.

Clients first search the suspect for triggers of a few pixels. Then, each round, honest clients teach the model the
suspect's own clean answers on stamped images (see ``distillation``), and the server, where it has validation images,
adds the updates up in pairs (one of three, if their number is odd), tries each group's model on images with the pooled
triggers, and keeps the better half. Of a group only the sum need be known. Without validation images the updates'
trimmed mean is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedmend.aggregation import mean_between, uniform_mean
from fedmend.data import ImageSet
from fedmend.errors import DataError
from fedmend.evaluation import accuracy
from fedmend.federation import Client, RoundPlan, apply_delta, collect
from fedmend.federation.distillation import Lesson, distill
from fedmend.inference import predict
from fedmend.local_training import LocalTraining
from fedmend.repairs.trigger_pool import TriggerPool
from fedmend.seeds import generator

GROUP_SIZE = 2
TESTED_TRIGGERS = 3
TRIM = 0.2


def guarded_round(
    model: nn.Module,
    clients: Sequence[Client],
    plan: RoundPlan,
    pool: TriggerPool,
    validation: ImageSet | None,
) -> None:
    """One round in place.

    Raises:
        ModelError: the new weights aren't finite. DataError: no client's update is.
    """
    before = deepcopy(model.state_dict())
    collected = collect(model, clients, plan)
    deltas = collected.updates.deltas
    if validation is None:
        apply_delta(model, mean_between(deltas, TRIM), collected, plan)
        return
    order = torch.randperm(len(clients), generator=generator(plan.seed, "groups", plan.number)).tolist()
    count = max(1, len(order) // GROUP_SIZE)
    groups = [order[first::count] for first in range(count)]
    tried: list[tuple[float, Tensor]] = []
    for group in groups:
        mean = uniform_mean(deltas[group])
        if bool(mean.isfinite().all()):
            apply_delta(model, mean, collected.part(group), plan)
            tried.append((resistance(model, validation, pool), mean))
            model.load_state_dict(before)
    if not tried:
        raise DataError("no client's update is finite; try a smaller lr")
    tried.sort(key=lambda one: -one[0])
    kept = torch.stack([mean for _, mean in tried[: (len(tried) + 1) // 2]])
    apply_delta(model, uniform_mean(kept), collected, plan)


def resistance(model: nn.Module, validation: ImageSet, pool: TriggerPool) -> float:
    """Accuracy on clean images, plus that on images of the best triggers' source classes stamped with them, by rate."""
    clean = accuracy(model, validation.images, validation.labels)
    total, weights = 0.0, 0.0
    for found in pool.best(TESTED_TRIGGERS):
        own = validation.images[validation.labels == found.source_class]
        if len(own):
            right = predict(model, own, found.trigger) == found.source_class
            total += found.rate * float(right.double().mean())
            weights += found.rate
    return clean + (total / weights if weights else 0.0)


@dataclass(frozen=True, eq=False)
class Distilling:
    """The task of honest clients: what the lesson says."""

    lesson: Lesson
    training: LocalTraining

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> None:
        """See :class:`fedmend.federation.Task`."""
        distill(model, images, self.lesson, self.training, seed)
