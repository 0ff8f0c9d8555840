"""Clean accuracy, attack success rate and the measures of a recovered trigger."""

from __future__ import annotations

from torch import Tensor, nn

from fedmend.errors import DataError
from fedmend.inference import predict
from fedmend.triggers import Patch


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
    trigger: Patch,
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
