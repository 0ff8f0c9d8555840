"""An aggregation rule of your own: ``own_rule:make`` names it in a TOML file.

[aggregation]
kind = "own_rule:make"
limit = 2.0
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fedmend.aggregation import State, Updates


@dataclass(frozen=True)
class Clipped:
    """The mean of the updates, of which none may be more than ``limit`` times as long as they were on average so far.

    What it remembers from round to round is its state: the length so far. It is saved with the run's checkpoints.
    """

    limit: float

    def __call__(self, updates: Updates, state: State) -> tuple[Tensor, State]:
        """Take updates (clients, P) and return one, (P,), and the state for the next round."""
        lengths = updates.deltas.norm(dim=1)
        usual = (state["length"] + lengths.median()) / 2 if "length" in state else lengths.median()
        factors = (self.limit * usual / lengths).clamp(max=1)
        return (factors[:, None] * updates.deltas).mean(dim=0), {"length": usual}


def make(limit: float = 2.0) -> Clipped:
    """What fedmend calls, with the table's settings other than ``kind``."""
    return Clipped(limit)
