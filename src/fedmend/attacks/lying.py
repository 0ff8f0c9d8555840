"""What a lying client sends in a repair: ballots, accuracies, triggers and updates (federated-pruning paper, 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fedmend.errors import ConfigError, DataError
from fedmend.seeds import generator
from fedmend.triggers import Patch, Trigger

_MADE_UP, _PIXELS = 8, 24


class FalseTrigger(NamedTuple):
    """A made-up trigger, claimed to send a fraction ``rate`` of the source class's images to the target class."""

    trigger: Patch
    source_class: int
    target_class: int
    rate: float


@dataclass(frozen=True, eq=False)
class Lies:
    """Lies that protect the backdoor, get honest channels pruned and pull the model back to the suspect.

    The paper only states that attackers "can return any pruning sequence they want". This is the strongest use of one
    ballot that we know.

    Attributes:
        trigger: the planted trigger, which reveals the backdoor's channels.
        fraction: fraction of the channels, in (0, 1], assumed to be the backdoor's; at least one channel.
        pull: how far an update goes to the suspect: 2, so that the mean with one update of zero arrives there.

    Raises:
        ConfigError: the fraction is out of range.
    """

    trigger: Trigger
    fraction: float = 0.25
    pull: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise ConfigError(f"the fraction of channels must be above 0 and at most 1; got {self.fraction}")

    def activations(self, clean: Tensor, stamped: Tensor) -> Tensor:
        """False mean activations, for a ballot.

        The channels that the trigger excites most appear as the most active. The order of the others is reversed.

        Args:
            clean, stamped: true mean activations of the client's images without and with the trigger, (C,).

        Returns:
            float64 (C,), all distinct.

        Raises:
            DataError: the two are not vectors of the same length.
        """
        if clean.shape != stamped.shape or clean.ndim != 1 or not len(clean):
            raise DataError(
                f"expected two vectors of the same length; got shapes {tuple(clean.shape)} and {tuple(stamped.shape)}"
            )
        count = max(1, round(self.fraction * len(clean)))
        excited = (stamped - clean).argsort(descending=True, stable=True)[:count]
        said = -clean.argsort(stable=True).argsort(stable=True).to(torch.float64)
        said[excited] = torch.arange(count, 0, -1, dtype=torch.float64, device=said.device)
        return said

    def accuracies(self, points: int) -> Tensor:
        """False accuracies along a pruning sequence, float64 (points,): 1, then 0 from the first pruned channel on."""
        said = torch.zeros(points, dtype=torch.float64)
        said[0] = 1
        return said

    def successes(self, triggers: int) -> Tensor:
        """Success rates in the repaired model, float64 (triggers,): no trigger works any more, so release it."""
        return torch.zeros(triggers, dtype=torch.float64)

    def update(self, now: Tensor, suspect: Tensor) -> Tensor:
        """What is sent instead of a self-distillation's update, (P,).

        Args:
            now, suspect: the round's model and the suspect, as flat vectors, (P,).
        """
        return self.pull * (suspect - now)

    def triggers(self, labels: Tensor, image_shape: tuple[int, ...], seed: int) -> list[FalseTrigger]:
        """Made-up triggers, as many and as large as a repair takes: eight of 24 random pixels, with the highest rate.

        Args:
            labels: the client's own, int64 (N,), N at least 1.
            image_shape: (C, H, W).
            seed: of the pixels.
        """
        random, (_, height, width) = generator(seed, "made up"), image_shape
        source, last = int(labels[0]), int(labels.max())
        target = last if source != last else max(0, source - 1)
        found = []
        for _ in range(_MADE_UP):
            mask = torch.zeros(height * width)
            mask[torch.randperm(len(mask), generator=random)[:_PIXELS]] = 1
            pattern = torch.rand(image_shape, generator=random).round()
            found.append(FalseTrigger(Patch(mask.view(1, height, width), pattern), source, target, 1.0))
        return found
