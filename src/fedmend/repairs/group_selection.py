"""Group selection: rounds in which Byzantine clients have little influence.

The server averages the updates in random groups of two (one of three, if their number is odd), tests each group's model
on validation images stamped with the triggers that clients found, and keeps the better half of the groups. Only each
group's summed update is needed. Without validation images it uses the trimmed mean of the updates.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy

import torch
from torch import Tensor, nn

from fedmend.aggregation import mean_between, uniform_mean
from fedmend.evaluation import accuracy
from fedmend.federation.client_fit import RoundPlan
from fedmend.federation.rounds import Collected, apply_delta
from fedmend.inference import predict
from fedmend.repairs.trigger_pool import TriggerPool
from fedmend.seeds import generator

GROUP_SIZE = 2
TESTED_TRIGGERS = 3
TRIM = 0.2


def best_groups(
    model: nn.Module,
    collected: Collected,
    plan: RoundPlan,
    validation: tuple[Tensor, Tensor],
    pool: TriggerPool,
) -> nn.Module:
    """The next model: the mean of the better half of the groups.

    Args:
        model: the round's global model; left as found.
        collected: what the clients sent; all of it is finite.
        plan: of the round; its seed and number determine the groups.
        validation: the server's own images and labels.
        pool: the triggers to resist.

    Raises:
        ModelError: the new weights aren't finite.
    """
    deltas = collected.updates.deltas
    means = ((uniform_mean(deltas[group]), group) for group in random_groups(len(deltas), plan))
    tried = ((mean, _moved(model, mean, collected.part(group), plan)) for mean, group in means)
    kept = better_half(tried, validation, pool)
    return _moved(model, uniform_mean(torch.stack(kept)), collected, plan)


def random_groups(clients: int, plan: RoundPlan) -> list[list[int]]:
    """The clients' places in groups of two, one of three if their number is odd; the plan's seed and number decide."""
    order = torch.randperm(clients, generator=generator(plan.seed, "groups", plan.number)).tolist()
    count = max(1, clients // GROUP_SIZE)
    return [order[first::count] for first in range(count)]


def better_half(
    tried: Iterable[tuple[Tensor, nn.Module]], validation: tuple[Tensor, Tensor], pool: TriggerPool
) -> list[Tensor]:
    """The mean updates of the groups whose models resist the triggers best, half of them, rounded up.

    Args:
        tried: each group's mean update (P,) and the model with it, which is needed one at a time.
        validation: the server's own images and labels.
        pool: the triggers to resist.
    """
    judged = [(resistance(candidate, validation, pool), mean) for mean, candidate in tried]
    judged.sort(key=lambda one: -one[0])
    return [mean for _, mean in judged[: (len(judged) + 1) // 2]]


def trimmed(model: nn.Module, collected: Collected, plan: RoundPlan) -> nn.Module:
    """The next model without validation images: the mean of each weight without a fifth of the updates at either end.

    Raises:
        ModelError: the new weights aren't finite. DataError: no client's update is.
    """
    return _moved(model, mean_between(collected.updates.deltas, TRIM), collected, plan)


def resistance(model: nn.Module, validation: tuple[Tensor, Tensor], pool: TriggerPool) -> float:
    """How well a model resists the triggers, from 0 to 2.

    It is the accuracy on the validation images plus the accuracy on stamped images of the best triggers' source
    classes, averaged with the triggers' rates as weights.
    """
    images, labels = validation
    total, weights = 0.0, 0.0
    for found in pool.best(TESTED_TRIGGERS):
        own = images[labels == found.source_class]
        if len(own):
            right = predict(model, own, found.trigger) == found.source_class
            total += found.rate * float(right.double().mean())
            weights += found.rate
    return accuracy(model, images, labels) + (total / weights if weights else 0.0)


def _moved(model: nn.Module, delta: Tensor, collected: Collected, plan: RoundPlan) -> nn.Module:
    candidate = deepcopy(model)
    apply_delta(candidate, delta, collected, plan)
    return candidate
