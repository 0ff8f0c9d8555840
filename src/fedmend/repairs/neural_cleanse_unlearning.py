"""Neural Cleanse's unlearning: fine-tuning with the reversed trigger on a fifth of the images."""

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
class NeuralCleanseUnlearning:
    """Stamp the reversed trigger on a fifth of the images, keep their true labels, and train for one epoch.

    After Wang et al., "Neural Cleanse: Identifying and Mitigating Backdoor Attacks in Neural Networks", IEEE S&P 2019,
    section VI. The paper takes a tenth of the training data; here it is the server's images, all of them. Stamped
    images replace the clean ones. Where the first finding names several targets, their triggers are stamped in turn.

    The paper trains as the model was trained, which a server doesn't know, so the learning rate is ours.

    Attributes:
        stamped_fraction: fraction of the images, in (0, 1], that are stamped; at least one with each trigger.
        training: of the suspect, on the images after stamping.

    Raises:
        ConfigError: a setting is out of range.
    """

    stamped_fraction: PositiveFraction = 0.2
    training: LocalTraining = LocalTraining(epochs=1, batch_size=32, lr=0.001)

    trigger_use: ClassVar[TriggerUse] = "one"

    def __call__(self, suspect: nn.Module, findings: Sequence[Finding], context: Context) -> Candidate:
        """Unlearn the first finding's triggers; see :class:`fedmend.repairs.base.Repair`.

        Raises:
            DataError: no finding names a trigger, labels don't match the images, or a label isn't one of the model's
                classes. ConfigError: the context has no images, or training diverged.
            ModelError: every parameter is frozen.
        """
        triggers = [trigger for _, trigger in first_targets(findings)]
        own = server_images(suspect, context, "unlearning")
        model = deepcopy(suspect)
        pixels = own.pixels(model)
        triggers = triggers[: len(pixels)]
        count = max(len(triggers), round(self.stamped_fraction * len(pixels)))
        order = torch.randperm(len(pixels), generator=generator(context.seed, "stamped"))
        chosen = order[:count].to(pixels.device)
        for turn, trigger in enumerate(triggers):
            here = chosen[turn :: len(triggers)]
            pixels[here] = stamp(trigger, pixels[here])
        fine_tune(model, pixels, own.labels, self.training, context)
        named = "The trigger was" if len(triggers) == 1 else f"{len(triggers)} triggers were"
        summary = f"{named} unlearned, stamped on {count} of {len(pixels)} images"
        return Candidate(model, summary, UnlearningDetails(context.attempt, len(triggers)))
