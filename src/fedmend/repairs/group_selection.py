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
from dataclasses import replace

import torch
from torch import Tensor, nn

from fedmend.aggregation import trimmed_mean, uniform_fedavg
from fedmend.data import ImageSet
from fedmend.errors import DataError
from fedmend.evaluation import accuracy
from fedmend.federation.clients import Client, HonestClient
from fedmend.federation.config import SimulationConfig
from fedmend.federation.distillation import Distillation
from fedmend.federation.simulator import client_updates, move
from fedmend.inference import predict
from fedmend.pruning import PruningMask
from fedmend.repairs.trigger_pool import TriggerPool
from fedmend.seeds import generator

GROUP_SIZE = 2
TESTED_TRIGGERS = 3
TRIM = 0.2


def guarded_round(
    model: nn.Module,
    clients: Sequence[Client],
    config: SimulationConfig,
    round_number: int,
    zeros: PruningMask,
    pool: TriggerPool,
    validation: ImageSet | None,
) -> None:
    """One round in place.

    Raises:
        ModelError: the new weights aren't finite. DataError: no client's update is.
    """
    before = deepcopy(model.state_dict())
    updates, states = client_updates(model, clients, config, round_number, zeros)
    deltas = torch.stack([update.delta for update in updates])
    if validation is None:
        move(model, trimmed_mean(deltas, TRIM), states, 1.0, zeros, round_number)
        return
    order = torch.randperm(len(clients), generator=generator(config.seed, "groups", round_number)).tolist()
    count = max(1, len(order) // GROUP_SIZE)
    groups = [order[first::count] for first in range(count)]
    tried: list[tuple[float, Tensor]] = []
    for group in groups:
        mean = uniform_fedavg(deltas[group])
        if bool(mean.isfinite().all()):
            move(model, mean, [states[index] for index in group], 1.0, zeros, round_number)
            tried.append((resistance(model, validation, pool), mean))
            model.load_state_dict(before)
    if not tried:
        raise DataError("no client's update is finite; try a smaller lr")
    tried.sort(key=lambda one: -one[0])
    kept = torch.stack([mean for _, mean in tried[: (len(tried) + 1) // 2]])
    move(model, uniform_fedavg(kept), states, 1.0, zeros, round_number)


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


def with_lessons(
    clients: Sequence[Client], pool: TriggerPool, teacher: nn.Module, settings: Distillation, number: int
) -> list[Client]:
    """The clients of the round of that number, from 1, the honest ones with its lesson."""
    lesson = pool.lesson(teacher, settings, settings.lr * settings.decay ** (number - 1))
    return [replace(each, lesson=lesson) if isinstance(each, HonestClient) else each for each in clients]
