"""The contrastive paper's unlearning as written (2.6): one trigger, true labels, one epoch."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import ClassVar

import torch
from torch import nn

from fedmend.checked_settings import PositiveFraction, settings
from fedmend.detection import Finding
from fedmend.local_training import LocalTraining
from fedmend.repairs.base import Candidate, Context, TriggerUse
from fedmend.repairs.repair_report import UnlearningDetails
from fedmend.repairs.server_training import fine_tune, server_images
from fedmend.repairs.trigger_choice import first_targets
from fedmend.seeds import generator
from fedmend.triggers import stamp


@settings
class ContrastivePaperUnlearning:
    """Fine-tune on clean images and stamped copies of some of them, with true labels (contrastive paper, 2.6).

    The one trigger is that of the first finding. There are no distillation targets, no start nearer to the reference
    and no variants: those are what :class:`Unlearning` adds.

    The paper gives one epoch. It gives no fraction of stamped images, so the default is that of Neural Cleanse, which
    it follows; nor a batch size or learning rate, so these are ours. Its optimizer in all training is Adam.

    Attributes:
        stamped_fraction: fraction of the images, in (0, 1], that get a stamped copy.
        training: of the suspect, on the clean images and the copies.

    Raises:
        ConfigError: a setting is out of range.
    """

    stamped_fraction: PositiveFraction = 0.2
    training: LocalTraining = LocalTraining(epochs=1, batch_size=32, lr=0.001)

    trigger_use: ClassVar[TriggerUse] = "one"

    def __call__(self, suspect: nn.Module, findings: Sequence[Finding], context: Context) -> Candidate:
        """Unlearn the first finding's first trigger; see :class:`fedmend.repairs.base.Repair`.

        Raises:
            DataError: no finding names a trigger, labels don't match the images, or a label isn't one of the model's
                classes. ConfigError: the context has no images, or training diverged.
            ModelError: every parameter is frozen.
        """
        _, trigger = first_targets(findings)[0]
        own = server_images(suspect, context, "unlearning")
        model = deepcopy(suspect)
        clean = own.pixels(model)
        count = max(1, round(self.stamped_fraction * len(clean)))
        order = torch.randperm(len(clean), generator=generator(context.seed, "stamped"))
        chosen = order[:count].to(clean.device)
        pixels = torch.cat([clean, stamp(trigger, clean[chosen])])
        labels = torch.cat([own.labels, own.labels[chosen]])
        fine_tune(model, pixels, labels, self.training, context)
        summary = f"One trigger was unlearned from {len(clean)} clean images and {count} stamped copies"
        return Candidate(model, summary, UnlearningDetails(context.attempt, 1))
