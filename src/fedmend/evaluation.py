"""Accuracy, attack success rate and measures of a recovered trigger."""

from __future__ import annotations

from torch import Tensor, nn

from fedmend.errors import DataError
from fedmend.goals import Goal, attacked, targets_of
from fedmend.inference import predict
from fedmend.triggers import Trigger


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The fraction, in [0, 1], of ``images`` (N, C, H, W) that the model classifies as labelled.

    Raises:
        DataError: there is no image.
    """
    if len(images) == 0:
        raise DataError("accuracy needs at least one image; got none")
    predictions = predict(model, images)
    return int((predictions == labels.to(predictions.device)).sum()) / len(images)


def attack_success_rate(
    model: nn.Module, trigger: Trigger, goal: Goal, images: Tensor, labels: Tensor
) -> float:
    """Attack success rate (ASR): the fraction of attacked images that the model sends to the goal's class.

    An image is attacked if the goal's class for it isn't its own. All-to-one: images of all classes other than the
    target (contrastive paper, 4.1). One-to-one: images of the source class (federated-pruning paper, 5).

    Args:
        model: run in eval mode; its modes are restored.
        trigger: stamped on the images: the attacker's own for the ASR, a recovered one for the REASR.
        goal: which class each image should be sent to.
        images: (N, C, H, W), uint8 or float in [0, 1].
        labels: true classes, int64 (N,).

    Returns:
        A fraction in [0, 1].

    Raises:
        DataError: the goal attacks none of the images.
    """
    wanted = targets_of(goal, labels)
    chosen = attacked(wanted, labels)
    count = int(chosen.sum())
    if count == 0:
        raise DataError(
            f"the attack success rate needs images of a class that {goal} attacks; got only images of classes "
            f"{sorted(set(labels.tolist()))}"
        )
    predictions = predict(model, images[chosen], trigger)
    return int((predictions == wanted[chosen].to(predictions.device)).sum()) / count


def feature_mse(clean: Tensor, stamped: Tensor) -> float:
    """The mean over images of the squared L2 distance between two (N, F) feature arrays (contrastive paper, Fig. 1).

    It is a sum over features, not divided by F.
    """
    return float((stamped - clean).double().square().sum(1).mean())


def mask_iou(mask: Tensor, other: Tensor, level: float = 0.5) -> float:
    """Intersection over union of the pixels at or above ``level`` in two masks; 0 if there are none."""
    first, second = mask >= level, other >= level
    either = int((first | second).sum())
    return int((first & second).sum()) / either if either else 0.0
