"""A patch's effect on both models: the evidence for contrastive verdicts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedmend.detection.base import Case
from fedmend.detection.search.chunking import in_parts
from fedmend.detection.search.features import FeatureMap
from fedmend.detection.search.recovery import Recovered
from fedmend.evaluation import feature_mse
from fedmend.inference import batch_size_for, frozen


@dataclass(frozen=True)
class Evidence:
    """The evidence for a verdict. Fractions are in [0, 1].

    Attributes:
        target: the class to which most stamped images of other classes are sent.
        target_name: its name.
        mse: squared L2 norm of the change of the suspect's features under the patch, averaged over the images.
        reasr: fraction of stamped images of other classes that the suspect sends to the target.
        reference_agreement: fraction of the same stamped images that the reference sends there.
        reference_accuracy: on the unstamped images; None without labels.
        mask_fraction: the mask's size, as a fraction of the image.
        num_classes: number of the models' classes.
        converged: False if the search's loss was still falling at the end.
        control_reasr: REASR, in the reference alone, of a patch of at most twice the size, found by a shorter search
            with the roles swapped; None if there was no such search.
    """

    target: int
    target_name: str
    mse: float
    reasr: float
    reference_agreement: float
    reference_accuracy: float | None
    mask_fraction: float
    num_classes: int
    converged: bool
    control_reasr: float | None = None


def measure_patch(case: Case, layer: str, found: Recovered) -> Evidence:
    """Measure a recovered patch on the case's models as given, in their own precision.

    Args:
        case: with a reference and images.
        layer: whose outputs are the features.
        found: the search's result.
    """
    assert case.reference is not None
    pixels, truth = case.pixels, case.truth
    several = batch_size_for(pixels)
    features = in_parts(FeatureMap(case.suspect, layer), several)
    with frozen(case.suspect, case.reference), torch.no_grad():
        clean = case.suspect_logits if layer == "logits" else features(pixels)[0]
        stamped = found.trigger.apply(pixels)
        stamped_features, logits = features(stamped)
        by_suspect = logits.argmax(1)
        by_reference = in_parts(FeatureMap(case.reference), several)(stamped)[1].argmax(1)
    classes = logits.shape[1]
    target, reasr = most_frequent_target(by_suspect, truth, classes)
    others = truth != target
    right = case.reference_logits.argmax(1) == truth
    return Evidence(
        target=target,
        target_name=case.class_name(target),
        mse=feature_mse(clean, stamped_features),
        reasr=reasr,
        reference_agreement=int((by_reference[others] == target).sum()) / int(others.sum()),
        reference_accuracy=None if case.labels is None else int(right.sum()) / len(truth),
        mask_fraction=found.trigger.size / (pixels.shape[2] * pixels.shape[3]),
        num_classes=classes,
        converged=found.converged,
    )


def most_frequent_target(predictions: Tensor, labels: Tensor, classes: int) -> tuple[int, float]:
    """The class to which most images *of other classes* are sent, and their fraction: target class and REASR.

    The paper uses the most frequent prediction. Counting only images of other classes avoids naming a class just
    because it has many images.

    Args:
        predictions: of stamped images, int64 (N,).
        labels: their true classes, int64 (N,).
        classes: number of classes.
    """
    wrong = torch.bincount(predictions[predictions != labels], minlength=classes).double()
    others = len(labels) - torch.bincount(labels, minlength=classes).double()
    fractions = wrong / others.clamp_min(1)
    target = int(fractions.argmax())
    return target, float(fractions[target])
