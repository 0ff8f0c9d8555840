"""Training on the server's own images: what all repairs that need no clients check and share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedmend.errors import ConfigError, DataError, DivergedError, ModelError
from fedmend.inference import device_of, in_mode, logits_of, pixels_for
from fedmend.local_training import LocalTraining
from fedmend.repairs.base import Context


@dataclass(frozen=True, eq=False)
class ServerImages:
    """The server's images as a model takes them, on its device.

    Attributes:
        images: uint8 or float in [0, 1], (N, C, H, W), N at least 1. labels: int64 (N,), classes of the model.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def pixels(self, model: nn.Module) -> Tensor:
        """The images as floats of the model's dtype, a copy."""
        return pixels_for(model, self.images)


def server_images(model: nn.Module, context: Context, method: str) -> ServerImages:
    """The context's images and labels on the model's device, checked.

    Args:
        model: its logits say which classes there are.
        method: what needs them, in messages.

    Raises:
        ConfigError: the context has none.
        DataError: labels don't match the images, there are none, or a label isn't one of the model's classes.
    """
    if context.images is None or context.labels is None:
        raise ConfigError(f"{method} needs the server's own clean images with labels; got none")
    if len(context.images) == 0 or context.labels.shape != (len(context.images),):
        raise DataError(
            f"{method} needs images (N, C, H, W) with labels (N,), N at least 1; "
            f"got {tuple(context.images.shape)} and {tuple(context.labels.shape)}"
        )
    device = device_of(model)
    labels = context.labels.to(device)
    classes = logits_of(model, pixels_for(model, context.images[:1])).shape[1]
    if int(labels.max()) >= classes or int(labels.min()) < 0:
        wrong = int(labels.max()) if int(labels.max()) >= classes else int(labels.min())
        raise DataError(f"labels must be in [0, {classes}), the model's classes; got {wrong}")
    return ServerImages(context.images.to(device), labels)


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that aren't frozen.

    Raises:
        ModelError: all are.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise ModelError("every parameter of the model is frozen; set requires_grad on those to fine-tune")
    return parameters


def shuffled(count: int, size: int, epochs: int, rng: torch.Generator) -> Iterator[Tensor]:
    """Indices of each batch, int64: every epoch in a new order, its last batch as small as it must be.

    Args:
        count: images. size: images per batch. epochs: passes over them.
    """
    for _ in range(epochs):
        yield from torch.randperm(count, generator=rng).split(size)


def fine_tune(
    model: nn.Module, pixels: Tensor, labels: Tensor, training: LocalTraining, context: Context
) -> int:
    """Train a model in place as a client would; its modes are restored.

    Args:
        pixels: (N, C, H, W), as the model takes them. labels: int64 (N,).
        training: how.
        context: its seed decides what is random.

    Returns:
        The number of steps.

    Raises:
        ConfigError: the training diverged. ModelError: every parameter is frozen.
    """
    trainable(model)
    try:
        with in_mode(model, training=True):
            training(model, pixels, labels, context.seed)
    except DivergedError as error:
        raise diverged("fine-tuning") from error
    model.zero_grad()
    require_finite(model, "fine-tuning")
    context.progress("fine-tuning", 1, 1)
    return training.epochs * steps_per_epoch(len(pixels), training)


def steps_per_epoch(count: int, training: LocalTraining) -> int:
    """How many steps one pass over so many images takes; a last batch of a single image is left out."""
    images = min(count, training.images_per_epoch or count)
    left_out = images % training.batch_size == 1 < min(images, training.batch_size)
    return -(-images // training.batch_size) - left_out


def require_finite(model: nn.Module, work: str) -> None:
    """See to it that no weight is NaN or infinite.

    Args:
        work: what changed them, in messages.

    Raises:
        ConfigError: one is.
    """
    if not all(bool(value.isfinite().all()) for value in model.state_dict().values()):
        raise diverged(work)


def diverged(work: str) -> ConfigError:
    """What to raise where training ended in NaN or infinite values."""
    return ConfigError(f"{work} diverged: weights became NaN or infinite; try a smaller lr")
