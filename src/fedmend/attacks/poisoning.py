"""Poisons a client's own training images (BadNets)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from fedmend.checked_settings import PositiveFraction, require
from fedmend.goals import Goal, attacked, targets_of
from fedmend.triggers import Trigger, stamp_stored


class Poisoner(Protocol):
    """What an attacker adds to its training images."""

    def against(self, model: nn.Module) -> Poisoner:
        """The same for a round's global model, which stays as it is; for images made to fool that model."""
        ...

    def __call__(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Poison a training set (see :class:`Poisoning`): the images given, then those added, with their labels."""
        ...


@dataclass(frozen=True, eq=False)
class Poisoning:
    """Add stamped copies, labelled with the goal's class, to clean training images (federated-pruning paper, 3.3).

    The originals keep their true labels, so that the model learns the trigger, not the images.

    Attributes:
        trigger: stamped on the copies: the whole trigger (SBA), or one part of it (DBA; contrastive paper, 3.4).
        goal: which images are copied, and their copies' labels.
        fraction: number of copies, as a fraction in (0, 1] of the images that the goal attacks.

    Raises:
        ConfigError: the fraction is no number or out of range.
    """

    trigger: Trigger
    goal: Goal
    fraction: float

    def __post_init__(self) -> None:
        require(self.fraction, PositiveFraction, "the poisoned fraction")

    def against(self, model: nn.Module) -> Poisoning:
        """See :class:`Poisoner`; stamped copies are the same for every model."""
        return self

    def __call__(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Poison a training set.

        Args:
            images: uint8 (N, C, H, W); not changed.
            labels: int64 (N,).
            generator: on the CPU; chooses the images to copy. At least one is copied if the goal attacks any.

        Returns:
            The images and labels, with copies appended.
        """
        wanted = targets_of(self.goal, labels)
        candidates = attacked(wanted, labels).nonzero().flatten()
        count = min(len(candidates), max(1, round(self.fraction * len(candidates))))
        order = torch.randperm(len(candidates), generator=generator)[:count].to(candidates.device)
        chosen = candidates[order]
        return (
            torch.cat([images, stamp_stored(self.trigger, images[chosen])]),
            torch.cat([labels, wanted[chosen]]),
        )
