"""A recovered patch's effect on the suspect: what the contrastive paper's rule judges."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedmend.detection.base import Case
from fedmend.detection.search.chunking import in_parts
from fedmend.detection.search.features import FeatureMap
from fedmend.detection.search.penalty_search import Recovered
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
        mask_fraction: the mask's size, as a fraction of the image.
        converged: False if the search's loss was still falling at the end.
    """

    target: int
    target_name: str
    mse: float
    reasr: float
    mask_fraction: float
    converged: bool


def measure_patch(case: Case, layer: str, found: Recovered) -> Evidence:
    """Measure a recovered patch on the case's suspect as given, in its own precision.

    Args:
        case: with images.
        layer: whose outputs are the features.
        found: the search's result.
    """
    pixels = case.pixels
    features = in_parts(FeatureMap(case.suspect, layer), batch_size_for(pixels))
    with frozen(case.suspect), torch.no_grad():
        clean = case.suspect_logits if layer == "logits" else features(pixels)[0]
        stamped_features, logits = features(found.trigger.apply(pixels))
    target, reasr = most_frequent_target(logits.argmax(1), case.truth, logits.shape[1])
    return Evidence(
        target=target,
        target_name=case.class_name(target),
        mse=feature_mse(clean, stamped_features),
        reasr=reasr,
        mask_fraction=found.trigger.size / (pixels.shape[2] * pixels.shape[3]),
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
