"""A mean of updates that arrive one at a time, none of which is kept."""

from __future__ import annotations

import torch
from torch import Tensor

from fedmend.checked_settings import Positive, require
from fedmend.errors import DataError


class RunningMean:
    """FedAvg, or norm clipping with a fixed limit, in the memory of one float64 vector.

    What needs all of a round's updates at once can't be had so: a limit on the claimed numbers of examples by their
    median, or on norms by theirs. Give weights that can be trusted, or 1 for each.

    Args:
        parameters: bool (P,): True for parameters, which are clipped, False for buffers.
        limit: the largest L2 norm of an update's parameters; None: no limit.

    Raises:
        ConfigError: the limit isn't a positive number.
    """

    def __init__(self, parameters: Tensor, limit: float | None = None) -> None:
        if limit is not None:
            require(limit, Positive, "a running mean's limit")
        self._parameters, self._limit = parameters, limit
        self._buffers = None if bool(parameters.all()) else ~parameters
        self._sum = torch.zeros(len(parameters), dtype=torch.float64, device=parameters.device)
        self._weight = 0.0

    def add(self, delta: Tensor, weight: float = 1.0) -> bool:
        """Add a client's update, (P,).

        Returns:
            False if it isn't finite, and so is left out.

        Raises:
            DataError: it has another length.
            ConfigError: the weight isn't a positive number.
        """
        require(weight, Positive, "an update's weight")
        if delta.shape != self._parameters.shape:
            raise DataError(
                f"expected an update of {len(self._parameters)} values; got shape {tuple(delta.shape)}"
            )
        if not bool(delta.isfinite().all()):
            return False
        factor = 1.0
        if self._limit is not None:
            clipped = delta if self._buffers is None else delta[self._parameters]
            norm = float(torch.linalg.vector_norm(clipped, dtype=torch.float64))
            factor = min(1.0, self._limit / max(norm, 1e-150))
        self._sum.add_(delta, alpha=weight * factor)
        if self._buffers is not None and factor < 1:
            self._sum[self._buffers] += weight * (1 - factor) * delta[self._buffers]
        self._weight += weight
        return True

    def result(self) -> Tensor:
        """The mean so far, float32 (P,).

        Raises:
            DataError: no update was finite.
        """
        if self._weight == 0:
            raise DataError("no client's update is finite; try a smaller [training] lr")
        return (self._sum / self._weight).float()
