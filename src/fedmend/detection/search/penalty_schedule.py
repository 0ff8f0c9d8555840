"""Neural Cleanse's schedule of the penalty on a mask's size, for many patches side by side."""

from __future__ import annotations

import torch
from torch import Tensor

from fedmend.checked_settings import Count, Positive, PositiveFraction, settings
from fedmend.errors import ConfigError

_DOWN = 1.5
_GAIN, _LEAST_GAIN = 0.01, 0.01


@settings
class Schedule:
    """How the weight of a mask's L1 norm follows the patch's success (Neural Cleanse, Section IV).

    The paper adjusts the weight during the search so that over 99 % of the images are misclassified. The numbers are
    those of its code, which multiplies the weight by ``multiplier``, and divides by its power of 1.5.

    Attributes:
        initial: the first weight.
        multiplier: above 1: by how much the weight rises.
        patience: rounds of success in a row until the weight rises, and rounds of failure until it falls.
        success: fraction of the images from which on a round is one of success.
        stop_after: rounds without a norm smaller by 1 % and 0.01 or more after which a patch is finished, once its
            weight has both risen and fallen.

    Raises:
        ConfigError: a setting is out of range.
    """

    initial: Positive = 1e-3
    multiplier: Positive = 2.0
    patience: Count = 5
    success: PositiveFraction = 0.99
    stop_after: Count = 25

    def __post_init__(self) -> None:
        if self.multiplier <= 1:
            raise ConfigError(f"multiplier: expected a number above 1; got {self.multiplier}")


class Penalties:
    """The state of the schedule for S patches, each apart from the others.

    Args:
        count: S.
        schedule: its settings.
        device: of the tensors.

    Attributes:
        weights: of each mask's norm, (S,).
        best: the smallest norm of a round of success so far, (S,); infinite without one.
    """

    def __init__(self, count: int, schedule: Schedule, device: torch.device | str = "cpu") -> None:
        self._schedule = schedule
        self.weights = torch.full((count,), schedule.initial, device=device)
        self.best = torch.full((count,), torch.inf, device=device)
        self._compared = self.best.clone()
        self._successes, self._failures, self._stale = torch.zeros(3, count, dtype=torch.int64, device=device)
        self._raised, self._lowered = torch.zeros(2, count, dtype=torch.bool, device=device)

    def judge(self, rates: Tensor, norms: Tensor) -> Tensor:
        """Note a round and adjust the weights; returns which patches are the best so far, bool (S,).

        Args:
            rates: each patch's success in the round, (S,).
            norms: each mask's L1 norm after it, (S,).
        """
        patience, multiplier = self._schedule.patience, self._schedule.multiplier
        works = rates >= self._schedule.success
        better = works & (norms < self.best)
        self.best = norms.where(better, self.best)
        gained = self.best < (1 - _GAIN) * self._compared - _LEAST_GAIN
        self._compared = self.best.where(gained, self._compared)
        self._stale = (self._stale + 1) * ~(gained | self.best.isinf())
        self._successes = (self._successes + 1) * works
        self._failures = (self._failures + 1) * ~works
        up, down = self._successes >= patience, self._failures >= patience
        factors = torch.ones_like(self.weights).masked_fill(up, multiplier)
        self.weights = self.weights * factors.masked_fill(down, multiplier**-_DOWN)
        self._successes, self._failures = self._successes * ~up, self._failures * ~down
        self._raised, self._lowered = self._raised | up, self._lowered | down
        return better

    @property
    def finished(self) -> Tensor:
        """Which patches no longer gain, bool (S,)."""
        done: Tensor = self._raised & self._lowered & (self._stale >= self._schedule.stop_after)
        return done

    def keep(self, chosen: Tensor) -> None:
        """Go on with some of the patches, bool (S,)."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value[chosen])
