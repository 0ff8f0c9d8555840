"""Clean accuracy, attack success rate and the measures of a recovered trigger."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fedmend.errors import DataError
from fedmend.pixels import to_float
from fedmend.triggers import Trigger

BATCH_SIZE = 500


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model and all its parts into eval mode, and each back as it was at the end."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@torch.no_grad()
def predict(model: nn.Module, images: Tensor, trigger: Trigger | None = None) -> Tensor:
    """The model's class for each image, int64 (N,), on the model's device.

    Args:
        images: (N, C, H, W), uint8 or float in [0, 1]; moved to the model's device batch by batch.
        trigger: stamped on the images first, if given.
    """
    device = device_of(model)
    trigger = trigger.to(device) if trigger is not None else None
    answers = []
    with evaluating(model):
        for batch in torch.split(images, BATCH_SIZE):
            pixels = pixels_for(model, batch)
            stamped = trigger.apply(pixels).to(pixels.dtype) if trigger is not None else pixels
            answers.append(model(stamped).argmax(1))
    return torch.cat(answers)


def device_of(model: nn.Module) -> torch.device:
    """Where the model's parameters are (the CPU if it has none)."""
    parameter = next(model.parameters(), None)
    return parameter.device if parameter is not None else torch.device("cpu")


def pixels_for(model: nn.Module, images: Tensor) -> Tensor:
    """Images, uint8 or float in [0, 1], as floats of the model's precision on its device."""
    like = next(model.parameters(), torch.empty(0))
    return to_float(images.to(like.device)).to(like.dtype)


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Clean accuracy: the share, in [0, 1], of ``images`` (N, C, H, W) given their right label.

    Raises:
        DataError: there is no image.
    """
    _require(len(images), "accuracy needs at least one image")
    predictions = predict(model, images)
    return int((predictions == labels.to(predictions.device)).sum()) / len(images)


def attack_success_rate(
    model: nn.Module,
    trigger: Trigger,
    images: Tensor,
    labels: Tensor,
    target_class: int,
    victim_class: int | None = None,
) -> float:
    """Attack success rate (ASR): of the images whose true class isn't the target, the share sent to the target.

    For an attack on one class, of that victim class's images (pruning paper, 5).

    Args:
        trigger: what is stamped; the attacker's own full trigger for the ASR, a recovered one for the REASR.
        images: (N, C, H, W), uint8 or float in [0, 1]; labels: int64 (N,).
        target_class: the class that the attacker wants.
        victim_class: the class that the attack is on, if on one only.

    Returns:
        A share in [0, 1].

    Raises:
        DataError: there is no such image.
    """
    if victim_class is None:
        others, wanted = labels != target_class, f"a class other than the target ({target_class})"
    else:
        others, wanted = labels == victim_class, f"the victim class ({victim_class})"
    _require(int(others.sum()), f"no image of {wanted} was given")
    return int((predict(model, images[others], trigger) == target_class).sum()) / int(others.sum())


def feature_mse(clean: Tensor, stamped: Tensor) -> float:
    """Squared L2 norm of the change of the features, averaged over the images (contrastive paper, Fig. 1).

    The sum over features isn't divided by their number. ``clean`` and ``stamped`` are (N, F).
    """
    return float((stamped - clean).double().square().sum(1).mean())


def mask_iou(mask: Tensor, other: Tensor, level: float = 0.5) -> float:
    """Intersection over union of two masks' pixels at or above ``level``; 0 when both are empty."""
    first, second = mask >= level, other >= level
    either = int((first | second).sum())
    return int((first & second).sum()) / either if either else 0.0


def _require(count: int, message: str) -> None:
    if count == 0:
        raise DataError(message)
