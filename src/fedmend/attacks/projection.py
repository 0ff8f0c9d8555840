"""Projection: an attacker keeps its update small, to pass a limit on norms."""

from __future__ import annotations

from torch import Tensor

from fedmend.attacks.updates import UpdateContext
from fedmend.checked_settings import Positive, settings


@settings
class Project:
    """Scale the update down to an L2 norm of at most ``radius`` (Wang et al. 2020, "Attack of the Tails", 3.2: PGD).

    The paper also projects during training; this projects only the final update. The norm is over parameters; buffers
    such as BatchNorm's statistics are ignored and not scaled.

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
