"""Fine-pruning: prune the last convolution's dormant channels by the server's own images, then fine-tune."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import ClassVar

from torch import nn

from fedmend.checked_settings import Fraction, settings
from fedmend.detection import Finding
from fedmend.local_training import LocalTraining
from fedmend.pruning import (
    accuracies_along,
    channel_mask,
    held,
    how_far,
    locate,
    mean_activations,
    points_along,
    pruning_sequence,
    set_to_zero,
)
from fedmend.repairs.base import Candidate, Context, TriggerUse
from fedmend.repairs.repair_report import NeuronDetails
from fedmend.repairs.server_training import fine_tune, server_images


@settings
class FinePruning:
    """Prune channels in the order of their mean activation on clean images, then fine-tune what is left.

    After Liu, Dolan-Gavitt and Garg, "Fine-Pruning: Defending Against Backdooring Attacks on Deep Neural Networks",
    RAID 2018. Channels of the last convolution that clean images hardly activate are pruned, the least active first, as
    long as the clean accuracy falls by at most ``max_drop`` in all. Pruned channels stay at zero while the rest is
    fine-tuned. Any model with a convolution will do, with or without normalisation.

    The paper stops at a fall of 4 points; the epochs and learning rate of its fine-tuning depend on the model, so those
    here are ours.

    Attributes:
        max_drop: largest fall of the accuracy on the server's images by pruning, a fraction in [0, 1].
        training: the fine-tuning.

    Raises:
        ConfigError: a setting is out of range.
    """

    max_drop: Fraction = 0.04
    training: LocalTraining = LocalTraining(epochs=10, batch_size=32, lr=0.001)

    trigger_use: ClassVar[TriggerUse] = "none"

    def __call__(self, suspect: nn.Module, findings: Sequence[Finding], context: Context) -> Candidate:
        """Prune and fine-tune, whatever was found; see :class:`fedmend.repairs.base.Repair`.

        Raises:
            DataError: labels don't match the images, or a label isn't one of the model's classes.
            ConfigError: the context has no images, or training diverged.
            ModelError: the model has no convolution whose channels can be set to zero, or every parameter is frozen.
        """
        own = server_images(suspect, context, "fine-pruning")
        model = deepcopy(suspect)
        layer = locate(model, own.images)
        channels = layer.convolution.out_channels
        order = pruning_sequence(mean_activations(model, own.images, layer.name, context.progress)).tolist()
        points = points_along(channels)
        accuracies = accuracies_along(model, order, points, own.images, own.labels, layer.name)
        pruned = order[: points[how_far(accuracies, self.max_drop, "total")]]
        mask = channel_mask(layer, pruned)
        set_to_zero(model, mask)
        with held(model, mask):
            fine_tune(model, own.pixels(model), own.labels, self.training, context)
        return Candidate(
            model,
            f"{len(pruned)} of {channels} channels were pruned and the rest fine-tuned on {len(own)} images",
            NeuronDetails({layer.name: tuple(sorted(pruned))} if pruned else {}, channels),
        )
