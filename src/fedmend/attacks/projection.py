"""Projection: an attacker keeps its update small, so that a limit on norms doesn't catch it."""

from __future__ import annotations

from torch import Tensor

from fedmend.attacks.updates import UpdateContext
from fedmend.checked_settings import Positive, settings


@settings
class Project:
    """Scale the update down to an L2 norm of at most ``radius`` (Wang et al. 2020, "Attack of the Tails", 3.2: PGD).

    The paper projects during training, too; here only the finished update is. The norm is that of the parameters;
    buffers such as BatchNorm's statistics don't count and stay as trained.

    Attributes:
        radius: the largest L2 norm.

    Raises:
        ConfigError: the radius is not above 0.
    """

    radius: Positive

    def __call__(self, delta: Tensor, context: UpdateContext) -> Tensor:
        """See :class:`UpdateStep`."""
        norm = float(delta[context.parameters].double().norm())
        if norm <= self.radius:
            return delta
        return delta.where(~context.parameters, delta * (self.radius / norm))
