"""The contrastive paper's detector as published (2.3 to 2.5 and Algorithm 1)."""

from __future__ import annotations

from dataclasses import asdict
from typing import ClassVar

import torch

from fedmend.checked_settings import Bytes, Count, NonNegative, Positive, settings
from fedmend.detection import contrastive_rule
from fedmend.detection.base import Case, Finding, Need, Target
from fedmend.detection.contrastive_loss import StampedLoss
from fedmend.detection.contrastive_rule import PaperThresholds
from fedmend.detection.model_pair import accelerated_pair
from fedmend.detection.patch_evidence import measure_patch
from fedmend.detection.search.memory import allowed_memory
from fedmend.detection.search.penalty_search import PenaltySearch
from fedmend.progress import Progress, silent


@settings
class ContrastivePaper:
    """Minimise Eq. 4 from one start, then apply the paper's rule: backdoored if MSE and REASR exceed their limits.

    Eq. 4 is contrastive loss + ``alpha`` * (-SSIM) + ``beta`` * L1 norm of the mask. The target is the class to which
    most images *of other classes* are sent; the paper uses the most frequent prediction.

    The paper doesn't say how mask and pattern start and stay in [0, 1], nor the optimizer's settings and which outputs
    are the features. Here they are sigmoids of normal noise, moved by Adam with the betas 0.5 and 0.9, and the features
    are the logits. With ``beta`` 0.01 a pixel (MNIST) and the sum of Eq. 3, the mask of some backdoored models shrinks
    to nothing within tens of steps; a warning says so. ``benchmarks/paper_a`` compares other readings of the text.

    Attributes:
        alpha: weight of the SSIM term.
        beta: weight of the mask's L1 norm, per pixel.
        steps: gradient steps (the paper's 500 epochs, A.2).
        lr: Adam's learning rate (ours: the paper names none).
        layer: whose outputs are the features: "logits", or a submodule's name.
        thresholds: limits of the rule.
        memory: bytes that the search may take beside models and images; None for half of what is free. Where all images
            at once would take more, they are computed in parts.

    Raises:
        ConfigError: a setting is out of range.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.REFERENCE, Need.IMAGES})

    alpha: NonNegative
    beta: NonNegative
    steps: Count = 500
    lr: Positive = 0.1
    layer: str = "logits"
    thresholds: PaperThresholds = PaperThresholds()
    memory: Bytes | None = None

    def __call__(self, case: Case, rng: torch.Generator, progress: Progress = silent) -> Finding:
        """Search, measure, decide.

        Args:
            case: with a reference and images of two classes or more.
            rng: on the CPU, for the random start.
            progress: called as ``progress("trigger inversion", step, steps)``.

        Raises:
            ModelError: a model has no layer ``layer``, or the loss became NaN or infinite.
            ConfigError: not even one image fits into the memory.
        """
        search = PenaltySearch(self.beta, self.steps, self.lr)
        with accelerated_pair(case, self.layer) as whole:
            pair = whole.within(allowed_memory(self.memory, case.device))
            found = search(StampedLoss(pair, self.alpha), pair.images, rng, progress)
            evidence = measure_patch(case, self.layer, found)
        verdict, reason = contrastive_rule.decide(evidence, self.thresholds)
        return Finding(
            detector="contrastive-paper",
            verdict=verdict,
            reason=reason,
            suspicious=evidence.reasr,
            limit=self.thresholds.reasr,
            measures=contrastive_rule.measures(evidence, self.thresholds),
            targets=(Target(evidence.target, evidence.reasr, trigger=found.trigger.to("cpu")),),
            warnings=contrastive_rule.warnings(evidence),
            notes=pair.notes,
            settings=asdict(self),
            loss_curve=found.loss_curve,
            stop_reason=found.stop_reason,
        )


PAPER_SETTINGS = {
    "mnist": ContrastivePaper(alpha=0.5, beta=0.01),
    "cifar10": ContrastivePaper(alpha=0.001, beta=0.0005),
    "gtsrb": ContrastivePaper(alpha=0.001, beta=0.005),
}
"""The paper's alpha and beta by dataset (A.2)."""
