"""TABOR: Neural Cleanse's search with four regularisers, judged by the quality of each class's trigger."""

from __future__ import annotations

from dataclasses import asdict
from typing import ClassVar

import torch
from torch import Tensor

from fedmend.checked_settings import Bytes, NonNegative, Positive, settings
from fedmend.detection import tabor_terms as terms
from fedmend.detection.anomaly_index import anomaly
from fedmend.detection.base import Case, Finding, Need
from fedmend.detection.class_by_class import finding_of_classes
from fedmend.detection.lone_suspect import LoneSuspect, accelerated_suspect
from fedmend.detection.outlier_rule import LIMIT, Compared
from fedmend.detection.search.class_inversion import ClassInversion, Regularisers
from fedmend.detection.search.inverted import Inverted
from fedmend.detection.search.patches import Regulariser
from fedmend.detection.tabor_terms import TaborWeights
from fedmend.progress import Progress, silent
from fedmend.triggers import Patch

_BLOCKED = 8
"""Images per class and step of R3."""


@settings
class Tabor:
    """For every class, search a patch that is small, in one piece, beside the object and works alone; compare quality.

    W. Guo et al., "TABOR: A Highly Accurate Approach to Inspecting and Restoring Trojan Backdoors in AI Systems",
    arXiv:1908.01763. To Neural Cleanse's loss are added R1 (overly large triggers), R2 (scattered), R3 (blocking) and
    R4 (overlaying). The lower a trigger's metric (:meth:`quality`), the likelier it was planted: a class below the
    median whose anomaly index is above 2 is flagged. It needs no reference and no labels: without them, a class is what
    the suspect predicts.

    Deviations: those of Neural Cleanse here, whose weight of the mask's L1 norm acts beside R1; the regularisers'
    weights are fixed, where the paper adjusts them during the search; R3 is of eight images a step; of the metric, see
    there. The four regularisers are those of two public implementations. Neither has the metric, which was not compared
    with the paper's figures.

    Attributes:
        search: the search of all classes.
        weights: of the regularisers.
        sparsity, roughness: the metric's alpha and beta (ours: the paper gives no numbers).
        limit: the largest anomaly index that is still usual.
        memory: bytes that the search may take beside model and images; None for half of what is free.

    Raises:
        ConfigError: a setting is out of range.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.IMAGES})

    search: ClassInversion = ClassInversion()
    weights: TaborWeights = TaborWeights()
    sparsity: NonNegative = 1.0
    roughness: NonNegative = 1.0
    limit: Positive = LIMIT
    memory: Bytes | None = None

    def __call__(self, case: Case, rng: torch.Generator, progress: Progress = silent) -> Finding:
        """Search, measure, compare, decide.

        Args:
            case: with images of two classes or more.
            rng: on the CPU, for the random starts and the order of the images.
            progress: called as ``progress("trigger inversion", round, rounds)``.

        Raises:
            ModelError: the model passes no gradient to its input, or a loss became NaN or infinite.
            ConfigError: not even one image fits into the memory.
        """
        with accelerated_suspect(case, self.memory) as suspect:
            found = self.invert(suspect, rng, progress)
            values = torch.stack(
                [self.quality(suspect, trigger, number) for number, trigger in enumerate(found.triggers)]
            )
        compared = Compared(
            "TABOR's metric of its trigger",
            "",
            values,
            found.reached,
            anomaly(values),
            self.limit,
            case.class_name,
        )
        return finding_of_classes("tabor", case, found, compared, notes=suspect.notes, settings=asdict(self))

    def invert(
        self, suspect: LoneSuspect, rng: torch.Generator, progress: Progress = silent
    ) -> Inverted[Patch]:
        """The patch for every class, by all terms of the loss; see :class:`ClassInversion`."""
        return self.search(suspect, rng, progress, self._regularisers(suspect))

    @torch.no_grad()
    def quality(self, suspect: LoneSuspect, trigger: Patch, target: int) -> Tensor:
        """The metric A of a trigger, the lower the likelier planted; a scalar.

        ``alpha * sparsity + beta * roughness - acc_att - acc_crop - acc_exp``: how many pixels are marked and how
        scattered; on the images of other classes, how often the stamped image is sent to the target, how often the
        stamped image is given its true class once the trigger's pixels are cropped, and how often the most important
        pixels of the stamped image, as many as are marked, are sent to the target alone.

        Deviations: a pixel is marked where the mask is at least 0.1, and pixels are explained by gradient times input.
        """
        others = suspect.truth != target
        images, truth = suspect.images[others], suspect.truth[others]
        marked = terms.visible(trigger.mask[None])
        stamped = trigger.apply(images)
        important = terms.explained(suspect, stamped, target, max(1, int(marked.sum())))
        attacked, left = suspect.predictions(stamped), suspect.predictions(stamped * (1 - trigger.mask))
        accuracy = (
            (attacked == target).double().mean()
            + (left == truth).double().mean()
            + (suspect.predictions(important) == target).double().mean()
        )
        shape = self.sparsity * terms.sparsity(marked) + self.roughness * terms.roughness(marked)
        return shape[0].double() - accuracy

    def _regularisers(self, suspect: LoneSuspect) -> Regularisers:
        def of_step(classes: Tensor, indices: Tensor) -> Regulariser:
            def regulariser(masks: Tensor, patterns: Tensor) -> Tensor:
                added = terms.large_and_scattered(masks, patterns, self.weights)
                if self.weights.blocking:
                    few = indices[:, :_BLOCKED]
                    added = added + self.weights.blocking * terms.blocking(suspect, masks, few)
                if self.weights.overlaying:
                    alone = terms.overlaying(suspect, masks, patterns, classes)
                    added = added + self.weights.overlaying * alone
                return added

            return regulariser

        return of_step
