"""Activation clustering (Chen et al., SafeAI at AAAI 2019): do a class's images fall into two clusters?"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedmend.checked_settings import Count, Fraction, settings
from fedmend.detection.base import Case, Finding, Measure, Need, Target
from fedmend.detection.hidden_layers import last_hidden_activations
from fedmend.detection.two_clusters import silhouette, two_means, whitened
from fedmend.inference import frozen
from fedmend.progress import Progress, silent

_PER_COMPONENT = 2
_SHOWN = 12


@dataclass(frozen=True, eq=False)
class Split:
    """A class's images in two clusters.

    Attributes:
        label: the class.
        smaller: numbers of the images in the smaller cluster, int64 (M,).
        fraction: their fraction of the class's images.
        silhouette: how well two clusters fit the class.
    """

    label: int
    smaller: Tensor
    fraction: float
    silhouette: float


@settings
class ActivationClustering:
    """Split each class's last hidden activations into two clusters; a small, separate one is poisoned (Section 3).

    The method judges *images*: it finds a backdoor only if poisoned ones, with the labels that the attacker gave them,
    are among those scanned, such as a client's or a server's training data. Clean images say nothing of the model.

    Deviations: in place of independent components, whitened principal components, which those are up to a rotation;
    silhouette and size both decide, as the paper proposes for its relative-size comparison, and nothing is retrained
    (no exclusionary reclassification). The verdict doesn't depend on the logits' scale, nor on any scale of the
    activations.

    Attributes:
        components: dimensions after the reduction (the paper's 10). A class with fewer than twice as many images isn't
            judged.
        silhouette: two clusters of a higher silhouette are separate (the paper's 0.10 to 0.15). In 10 whitened
            dimensions one round cloud has about 0.07, and with 15 % poisoned images at most 0.165 is possible; with
            fewer dimensions both are higher.
        size: a cluster of a smaller fraction of its class is small.
        fewest: images of a small cluster; fewer are single outliers.

    Raises:
        ConfigError: a setting is out of range.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.IMAGES, Need.LABELS})
    judges_images: ClassVar[bool] = True  # so that alone it makes no model clean where all others fail

    components: Count = 10
    silhouette: Fraction = 0.12
    size: Fraction = 0.35
    fewest: Count = 3

    def __call__(self, case: Case, rng: torch.Generator, progress: Progress = silent) -> Finding:
        """Split every class, decide.

        Args:
            case: with images and labels.
            rng: on the CPU, for the starts of k-means.
            progress: called as ``progress("activation clustering", class, classes)``.

        Raises:
            ModelError: the model has no linear or convolution layer, or its activations are NaN or infinite.
        """
        with frozen(case.suspect):
            activations = last_hidden_activations(case.suspect, case.pixels)
        labels, classes = case.truth.cpu(), case.suspect_logits.shape[1]
        splits = []
        for label in range(classes):
            own = (labels == label).nonzero().flatten()
            if len(own) >= _PER_COMPONENT * self.components:
                splits.append(self._split(label, activations[own], own, rng))
            progress("activation clustering", label + 1, classes)
        return self._finding(case, splits, classes)

    def _split(self, label: int, activations: Tensor, own: Tensor, rng: torch.Generator) -> Split:
        points = whitened(activations, self.components)
        if points.shape[1] == 0:  # all images have the same activations
            return Split(label, own[:0], 0.0, 0.0)
        second = two_means(points, rng)
        if int(second.sum()) > len(own) / 2:
            second = ~second
        return Split(label, own[second], float(second.double().mean()), silhouette(points, second))

    def _small(self, split: Split) -> bool:
        return split.fraction < self.size and len(split.smaller) >= self.fewest

    def _finding(self, case: Case, splits: list[Split], classes: int) -> Finding:
        if not splits:
            least = _PER_COMPONENT * self.components
            return self._without(
                f"No class has {least} labelled images, fewer than which can't be split in {self.components} "
                "dimensions; scan more images (--images)."
            )
        small = [split for split in splits if self._small(split)]
        bad = sorted(
            (split for split in small if split.silhouette > self.silhouette),
            key=lambda split: -split.silhouette,
        )
        worst = max(small or splits, key=lambda split: split.silhouette)
        unjudged = classes - len(splits)
        return Finding(
            detector="activation-clustering",
            verdict="backdoored" if bad else "clean",
            reason=" ".join(self._said(split, case) for split in bad)
            or "No class's images fall into a large and a small, separate cluster: none of the scanned images looks "
            "poisoned. That says nothing of triggers that aren't in them.",
            suspicious=worst.silhouette if small else 0.0,
            limit=self.silhouette,
            measures=self._measures(worst, case, bool(bad)),
            targets=tuple(Target(split.label, _sent(split, case)) for split in bad),
            warnings=(f"{unjudged} of {classes} classes have too few images to be split.",)
            if unjudged
            else (),
            settings=asdict(self),
            poisoned=tuple(sorted(number for split in bad for number in split.smaller.tolist())),
        )

    def _without(self, reason: str) -> Finding:
        return Finding(
            detector="activation-clustering",
            verdict="inconclusive",
            reason=reason,
            suspicious=math.nan,
            limit=self.silhouette,
            settings=asdict(self),
        )

    def _said(self, split: Split, case: Case) -> str:
        numbers = split.smaller.tolist()
        more = f" and {len(numbers) - _SHOWN} more" if len(numbers) > _SHOWN else ""
        return (
            f'Of the images labelled "{case.class_name(split.label)}", {split.fraction:.0%} form a cluster of their '
            f"own (silhouette {split.silhouette:.2f}) and look poisoned: numbers "
            f"{', '.join(map(str, numbers[:_SHOWN]))}{more}."
        )

    def _measures(self, worst: Split, case: Case, bad: bool) -> tuple[Measure, ...]:
        name = case.class_name(worst.label)
        return (
            Measure(
                key="silhouette",
                name=f"Silhouette ({name})",
                value=worst.silhouette,
                limit=self.silhouette,
                suspicious_when="above",
                scale="plain",
                explanation="How well two clusters fit the class's activations: 1 where they are far apart.",
                reading="Two separate clusters."
                if worst.silhouette > self.silhouette
                else "Not two clusters.",
                tone="suspicious" if bad else "innocent",
            ),
            Measure(
                key="cluster_size",
                name=f"Size of the smaller cluster ({name})",
                value=worst.fraction,
                limit=self.size,
                suspicious_when="below",
                scale="fraction",
                explanation="Its fraction of the images with that label. Clean images split into halves.",
                reading=f"{len(worst.smaller)} images.",
                tone="suspicious" if bad else "innocent",
            ),
        )


def _sent(split: Split, case: Case) -> float:
    """The fraction of the poisoned images that the suspect sends to the class."""
    predicted = case.suspect_logits.argmax(1).cpu()[split.smaller]
    return float((predicted == split.label).double().mean())
