"""FedAvgM: FedAvg with momentum at the server."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from fedmend.aggregation.base import State, Updates
from fedmend.aggregation.fedavg import Ratio, capped, finite_weighted_mean
from fedmend.checked_settings import settings


@settings
class FedAvgM:
    """Server momentum on FedAvg's weighted mean: ``v <- momentum * v + mean``, and the model moves by ``v``.

    Hsu, Qi and Brown, "Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification"
    (2019), section 3.2. Deviation: float buffers, such as BatchNorm's running statistics, get the plain mean, because
    momentum could carry a variance below zero. Non-finite deltas are left out, and numbers of examples count as in
    :class:`.FedAvg`.

    Its state is ``velocity``, float (P,), 0 where there are buffers.

    Attributes:
        momentum: the paper's beta, in [0, 1); at 0 it is FedAvg.
        most: as for FedAvg.
    """

    momentum: Annotated[float, Field(ge=0, lt=1, strict=True)] = 0.9
    most: Ratio = 10.0

    def __call__(self, updates: Updates, state: State) -> tuple[Tensor, State]:
        """See :class:`~fedmend.aggregation.Aggregator`.

        Raises:
            DataError: no delta is finite.
        """
        mean = finite_weighted_mean(updates, capped(updates.num_examples, self.most))
        parameters = updates.parameters.to(mean.device)
        velocity = mean.where(parameters, 0)
        if "velocity" in state:
            velocity = self.momentum * state["velocity"].to(mean) + velocity
        return velocity.where(parameters, mean), {"velocity": velocity}
