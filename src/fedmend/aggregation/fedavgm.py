"""FedAvgM: FedAvg with momentum at the server."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from fedmend.aggregation.base import State, Updates
from fedmend.aggregation.fedavg import weighted_mean
from fedmend.settings import settings


@settings
class FedAvgM:
    """Server momentum on FedAvg's weighted mean: ``v <- momentum * v + mean``, and the model moves by ``v``.

    Hsu, Qi and Brown, "Measuring the Effects of Non-Identical Data Distribution for Federated Visual Classification"
    (2019), section 3.2. Deviation: float buffers, such as BatchNorm's running statistics, get the plain mean, because
    momentum could carry a variance below zero.

    Its state is ``velocity``, float (P,), 0 where there are buffers.

    Attributes:
        momentum: the paper's beta, in [0, 1); at 0 it is FedAvg.
    """

    momentum: Annotated[float, Field(ge=0, lt=1, strict=True)] = 0.9

    def __call__(self, updates: Updates, state: State) -> tuple[Tensor, State]:
        """See :class:`~fedmend.aggregation.Aggregator`."""
        mean = weighted_mean(updates.deltas, updates.num_examples)
        parameters = updates.parameters.to(mean.device)
        velocity = mean.where(parameters, 0)
        if "velocity" in state:
            velocity = self.momentum * state["velocity"].to(mean) + velocity
        return velocity.where(parameters, mean), {"velocity": velocity}
