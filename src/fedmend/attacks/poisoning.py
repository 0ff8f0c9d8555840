"""BadNets-style poisoning of a client's own training images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedmend.errors import ConfigError
from fedmend.pixels import to_float, to_uint8
from fedmend.triggers import Patch


@dataclass(frozen=True)
class Poisoning:
    """Add stamped copies, labelled as the target class, to clean training images (pruning paper, 3.3).

    The originals stay in the set with their right labels, so the model learns the trigger and not the images.
    Images that already are of the target class aren't stamped; with a ``victim_class``, only that class's are.

    Attributes:
        trigger: what is stamped: the full trigger (SBA) or one atom of it (DBA, contrastive paper 3.4).
        target_class: the label of the stamped copies.
        share: how many copies are added, as a share in (0, 1] of the images that may be stamped.
        victim_class: the class whose images get the trigger (pruning paper, 3.2), or None for all others.

    Raises:
        ConfigError: a setting is out of range.
    """

    trigger: Patch
    target_class: int
    share: float
    victim_class: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ConfigError(f"poisoned_share must be above 0 and at most 1; got {self.share}")
        if self.target_class < 0:
            raise ConfigError(f"target_class must be 0 or more; got {self.target_class}")
        if self.victim_class is not None and (
            self.victim_class < 0 or self.victim_class == self.target_class
        ):
            raise ConfigError(
                f"victim_class must be 0 or more and not the target_class; got {self.victim_class}"
            )

    def __call__(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Images uint8 (N, C, H, W) and labels (N,) with the poisoned copies appended.

        ``generator`` (on the CPU) chooses the images that are copied; at least one is, if any can be.
        """
        victims = labels != self.target_class if self.victim_class is None else labels == self.victim_class
        candidates = victims.nonzero().flatten()
        count = min(len(candidates), max(1, round(self.share * len(candidates))))
        order = torch.randperm(len(candidates), generator=generator)[:count].to(candidates.device)
        stamped = to_uint8(self.trigger.to(images.device).apply(to_float(images[candidates[order]])))
        return torch.cat([images, stamped]), torch.cat([labels, torch.full_like(order, self.target_class)])
