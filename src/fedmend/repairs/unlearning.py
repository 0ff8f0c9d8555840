"""Unlearning: fine-tuning on images that carry the recovered trigger and their right labels."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from fedmend.errors import ConfigError, DataError, ModelError
from fedmend.inference import BATCH_SIZE, device_of, evaluating, pixels_for
from fedmend.progress import Progress, silent
from fedmend.triggers import Patch


@dataclass(frozen=True)
class Unlearning:
    """Fine-tune a copy of a model until the trigger means nothing to it (contrastive paper, 2.6).

    Every batch holds clean images and stamped copies of them, all with their right labels. The paper gives neither
    the share of stamped copies, the learning rate nor the batch size; those are ours. So is ``soft_answers``: a few
    images' hard labels teach a model to overfit them, while its own soft answers on the unstamped images (or the mean
    of several models') keep what it
    knows. 0 is the paper's recipe. Dropout is off, and BatchNorm keeps the statistics it has: a few stamped images
    are no sample of the clean data.

    Attributes:
        epochs: passes over the images; the paper's is one.
        stamped_share: share in (0, 1] of a batch's images that get a stamped copy.
        soft_answers: weight in [0, 1] of the teachers' answers on the clean images in the targets, beside the labels.
        lr: Adam's learning rate at the start; it falls to 0 in a straight line.
        batch_size: clean images a batch.

    Raises:
        ConfigError: a setting is out of range.
    """

    epochs: int = 1
    stamped_share: float = 1.0
    soft_answers: float = 0.7
    lr: float = 0.003
    batch_size: int = 16

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1 or not 0 < self.lr < float("inf"):
            raise ConfigError(
                f"epochs and batch_size must be 1 or more and lr finite and above 0; got {self}"
            )
        if not 0 < self.stamped_share <= 1 or not 0 <= self.soft_answers <= 1:
            raise ConfigError(f"stamped_share must be in (0, 1] and soft_answers in [0, 1]; got {self}")

    def __call__(
        self,
        suspect: nn.Module,
        triggers: Patch | Sequence[Patch],
        images: Tensor,
        labels: Tensor,
        *,
        teachers: Sequence[nn.Module] = (),
        seed: int = 0,
        progress: Progress = silent,
    ) -> nn.Module:
        """A repaired copy of ``suspect``, on its device and in its modes; the original is left untouched.

        Args:
            triggers: what to unlearn; of several, the stamped images get one each, in turn.
            images: the server's own clean images, uint8 or float in [0, 1], (N, C, H, W).
            labels: their true classes, int64 (N,).
            teachers: models on the suspect's device whose soft answers are averaged; the suspect by default.
            seed: for the order of the images and so the choice of those stamped.
            progress: called once a batch.

        Raises:
            DataError: images and labels don't match, there are none, or a label isn't one of the model's classes.
            ModelError: every parameter is frozen.
        """
        chosen = [triggers] if isinstance(triggers, Patch) else list(triggers)
        if not chosen:
            raise DataError("unlearning needs a trigger; got none")
        if len(images) == 0 or labels.shape != (len(images),):
            raise DataError(
                f"unlearning needs images (N, C, H, W) with labels (N,), N at least 1; "
                f"got {tuple(images.shape)} and {tuple(labels.shape)}"
            )
        model, device = deepcopy(suspect), device_of(suspect)
        images, labels = images.to(device), labels.to(device)
        chosen = [trigger.to(device) for trigger in chosen]
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if not trainable:
            raise ModelError(
                "every parameter of the model is frozen; set requires_grad on those to fine-tune"
            )
        optimizer = torch.optim.Adam(trainable, self.lr)
        batches = -(-len(images) // self.batch_size) * self.epochs
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=batches)
        done = used = 0
        targets = self._targets(teachers or [suspect], images, labels)
        order = torch.Generator().manual_seed(seed)
        with evaluating(model):
            for _ in range(self.epochs):
                for batch in torch.randperm(len(images), generator=order).to(device).split(self.batch_size):
                    clean = pixels_for(model, images[batch])
                    count = max(1, round(self.stamped_share * len(batch)))
                    turns = [chosen[(used + index) % len(chosen)] for index in range(count)]
                    stamped = [trigger.apply(clean[[index]]).to(clean) for index, trigger in enumerate(turns)]
                    used += count
                    optimizer.zero_grad()
                    logits = model(torch.cat([clean, *stamped]))
                    truth = torch.cat([targets[batch], targets[batch[:count]]])
                    cross_entropy(logits, truth).backward()
                    optimizer.step()
                    schedule.step()
                    done += 1
                    progress("unlearning", done, batches)
        return model

    def _targets(self, teachers: Sequence[nn.Module], images: Tensor, labels: Tensor) -> Tensor:
        """Class probabilities (N, classes) to teach: the labels, mixed with the teachers' mean answers."""
        answers = []
        for model in teachers:
            with evaluating(model), torch.no_grad():
                batches = images.split(BATCH_SIZE)
                answers.append(torch.cat([model(pixels_for(model, batch)).softmax(1) for batch in batches]))
        soft = torch.stack(answers).mean(0)
        if int(labels.max()) >= soft.shape[1] or int(labels.min()) < 0:
            raise DataError(
                f"labels must be in [0, {soft.shape[1]}), the model's classes; got {int(labels.max())}"
            )
        return (1 - self.soft_answers) * one_hot(labels, soft.shape[1]) + self.soft_answers * soft


def unlearn(
    suspect: nn.Module, trigger: Patch, images: Tensor, labels: Tensor, *, seed: int = 0
) -> nn.Module:
    """:class:`Unlearning` with its default settings: one epoch."""
    return Unlearning()(suspect, trigger, images, labels, seed=seed)
