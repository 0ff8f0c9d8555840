"""An update step of your own: what an attacker does to its update. ``own_attack:make`` names it in a TOML file.

[[attack.update]]
kind = "own_attack:make"
fraction = 0.1
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fedmend.attacks import UpdateContext


@dataclass(frozen=True)
class KeepLargest:
    """Send the largest changes only, so that the update touches few weights."""

    fraction: float

    def __call__(self, delta: Tensor, context: UpdateContext) -> Tensor:
        """Take the update (P,) and return a new one; buffers such as BatchNorm's statistics stay as trained."""
        sizes = delta.abs().where(context.parameters, 0)
        count = max(1, round(self.fraction * int(context.parameters.sum())))
        kept = sizes >= sizes.topk(count).values[-1]
        return delta.where(kept | ~context.parameters, 0)


def make(fraction: float = 0.1) -> KeepLargest:
    """What fedmend calls, with the table's settings other than ``kind``."""
    return KeepLargest(fraction)
