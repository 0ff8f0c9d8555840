"""Unlearning: fine-tuning on images that carry the recovered trigger and their right labels."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fedmend.errors import ConfigError, DataError, ModelError
from fedmend.metrics import device_of, keeping_modes
from fedmend.pixels import to_float
from fedmend.progress import Progress, silent
from fedmend.triggers import Trigger


@dataclass(frozen=True)
class Unlearning:
    """Fine-tune a copy of a model until the trigger means nothing to it (contrastive paper, 2.6).

    Every batch holds clean images and, beside them, stamped copies of a part of them, all with their right labels.
    The paper gives neither the part, the learning rate nor the batch size; those are ours. BatchNorm keeps the
    statistics it has: a few stamped images are no sample of the clean data.

    Attributes:
        epochs: passes over the images; the paper's is one.
        stamped_share: share in (0, 1] of a batch's images that get a stamped copy.
        lr: Adam's learning rate.
        batch_size: clean images a batch.

    Raises:
        ConfigError: a setting is out of range.
    """

    epochs: int = 1
    stamped_share: float = 0.5
    lr: float = 0.001
    batch_size: int = 32

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1 or not 0 < self.lr < float("inf"):
            raise ConfigError(f"epochs and batch_size must be 1 or more and lr finite and above 0; got {self}")
        if not 0 < self.stamped_share <= 1:
            raise ConfigError(f"stamped_share must be in (0, 1]; got {self}")

    def __call__(
        self,
        suspect: nn.Module,
        triggers: Trigger | Sequence[Trigger],
        images: Tensor,
        labels: Tensor,
        *,
        seed: int = 0,
        progress: Progress = silent,
    ) -> nn.Module:
        """A repaired copy of ``suspect``, on its device and in its modes; the original is left untouched.

        Args:
            triggers: what to unlearn; of several, the stamped images get one each, in turn.
            images: the server's own clean images, uint8 or float in [0, 1], (N, C, H, W).
            labels: their true classes, int64 (N,).
            seed: for the order of the images, the choice of those stamped, and dropout.
            progress: called once a batch.

        Raises:
            DataError: images and labels don't match, or there are none.
            ModelError: every parameter is frozen.
        """
        chosen = [triggers] if isinstance(triggers, Trigger) else list(triggers)
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
            raise ModelError("every parameter of the model is frozen; set requires_grad on those to fine-tune")
        optimizer = torch.optim.Adam(trainable, self.lr)
        batches = -(-len(images) // self.batch_size) * self.epochs
        done = 0
        with keeping_modes(model), torch.random.fork_rng([device] if device.type == "cuda" else []):
            _fine_tuning_mode(model)
            torch.manual_seed(seed)
            for _ in range(self.epochs):
                for batch in torch.randperm(len(images)).to(device).split(self.batch_size):
                    clean = to_float(images[batch])
                    count = max(1, round(self.stamped_share * len(batch)))
                    parts = [clean[index : count : len(chosen)] for index in range(len(chosen))]
                    stamped = [trigger.apply(part) for trigger, part in zip(chosen, parts, strict=True)]
                    truth = [labels[batch][index : count : len(chosen)] for index in range(len(chosen))]
                    inputs, targets = torch.cat([clean, *stamped]), torch.cat([labels[batch], *truth])
                    optimizer.zero_grad()
                    cross_entropy(model(inputs), targets).backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                    done += 1
                    progress("unlearning", done, batches)
        return model


def _fine_tuning_mode(model: nn.Module) -> None:
    model.train()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def unlearn(suspect: nn.Module, trigger: Trigger, images: Tensor, labels: Tensor, *, seed: int = 0) -> nn.Module:
    """:class:`Unlearning` with its default settings: one epoch, half of the images stamped."""
    return Unlearning()(suspect, trigger, images, labels, seed=seed)
