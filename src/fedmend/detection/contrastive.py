"""fedmend's own detector: contrastive trigger inversion with a size limit (contrastive paper, 2.3 to 2.5)."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import ClassVar

import torch

from fedmend.checked_settings import Bytes, Flag, NonNegative, settings
from fedmend.detection import decision
from fedmend.detection.base import Case, Finding, Need, Target
from fedmend.detection.contrastive_objective import ContrastiveObjective, Exploration
from fedmend.detection.decision import Thresholds
from fedmend.detection.model_pair import ModelPair, accelerated_pair
from fedmend.detection.patch_evidence import Evidence, measure_patch, most_frequent_target
from fedmend.detection.search.memory import allowed_memory
from fedmend.detection.search.recovery import Recovered
from fedmend.detection.search.size_limited_search import SizeLimitedSearch
from fedmend.inference import frozen, predict
from fedmend.progress import Progress, silent
from fedmend.seeds import generator


@settings
class Contrastive:
    """Recover a patch that changes the suspect's features but not the reference's, then judge its effect.

    The loss is the paper's Eq. 4: contrastive loss + ``alpha`` * (-SSIM). The paper penalises the mask's L1 norm with
    a weight that must be tuned for each dataset (A.2); this detector limits it (see :class:`SizeLimitedSearch`).
    Before a verdict of backdoored, it runs a control: a shorter search with the roles swapped (ours). If a patch of at
    most twice the size fools only the reference, honest training also explains the difference between the models.

    Attributes:
        alpha: weight of the SSIM term.
        layer: whose outputs are the features: "logits", or a submodule's name.
        search: the size-limited search.
        exploration: the exploration loss. "full" is the whole loss. "suspect" assumes that the stamp doesn't change
            the reference's features: half the cost, and enough for a verdict, but with more stray pixels. "aimed" is
            the same for nine steps; then each restart targets the class to which it has pushed images most (ours: a
            trigger sends all images to one class, while Eq. 1 allows a different class for each).
        control: whether to run the control; it takes about a third of a scan that ends in backdoored.
        half: whether a search on logits may use half precision, if the CPU has bfloat16 instructions and the model is
            large enough to gain. The evidence is measured in the model's own precision.
        thresholds: limits of the decision rule.
        memory: bytes that the search may take beside models and images; None for half of what is free. Where all images
            at once would take more, they are computed in parts.

    Raises:
        ConfigError: a setting is out of range.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.REFERENCE, Need.IMAGES})

    alpha: NonNegative = 0.1
    layer: str = "logits"
    search: SizeLimitedSearch = SizeLimitedSearch()
    exploration: Exploration = "aimed"
    control: Flag = True
    half: Flag = True
    thresholds: Thresholds = Thresholds()
    memory: Bytes | None = None

    def __call__(self, case: Case, rng: torch.Generator, progress: Progress = silent) -> Finding:
        """Search, measure, decide.

        Args:
            case: with a reference and images of two classes or more.
            rng: on the CPU. The control's generator is derived from its initial seed.
            progress: stages "trigger inversion" and "control: trigger inversion".

        Raises:
            ModelError: a model has no layer ``layer``, or the loss became NaN or infinite.
            ConfigError: not even one image fits into the memory.
        """
        with accelerated_pair(case, self.layer, half=self.half) as whole:
            pair = whole.within(allowed_memory(self.memory, case.device))
            found = self.recover(pair, rng, progress)
            evidence = measure_patch(case, self.layer, found)
            verdict, reason = decision.decide(evidence, self.thresholds)
            if self.control and verdict == "backdoored":
                evidence = replace(
                    evidence, control_reasr=self._control_reasr(case, pair, evidence, rng, progress)
                )
                verdict, reason = decision.decide(evidence, self.thresholds)
        return Finding(
            detector="contrastive",
            verdict=verdict,
            reason=reason,
            suspicious=evidence.reasr,
            limit=self.thresholds.reasr,
            measures=decision.contrastive_measures(evidence, self.thresholds),
            targets=(
                Target(
                    target=evidence.target,
                    success=evidence.reasr,
                    trigger=found.trigger.to("cpu"),
                    variants=tuple(variant.to("cpu") for variant in found.variants),
                ),
            ),
            warnings=decision.search_warnings(evidence),
            notes=pair.notes,
            settings=asdict(self),
            loss_curve=found.loss_curve,
            stop_reason=found.stop_reason,
            other_rules={"contrastive-paper": decision.paper_rule(evidence, self.thresholds)},
        )

    def recover(self, pair: ModelPair, rng: torch.Generator, progress: Progress = silent) -> Recovered:
        """Search for a trigger, without judging it.

        Args:
            pair: both models, with frozen weights.
            rng: on the CPU, for the restarts and the choice of images.
            progress: called as ``progress("trigger inversion", step, steps)``.
        """
        objective = ContrastiveObjective(pair, self.alpha, self.exploration)
        return self.search(objective, pair.images, rng, progress)

    def for_control(self, max_mask_fraction: float) -> Contrastive:
        """The same method for a control: a shorter search for a patch of at most this fraction of the image.

        A third of the restarts, three fifths of the exploration steps and two finalists are enough: if honest training
        separates two models, most restarts find a patch. The first one that succeeds ends the search. The exploration
        isn't aimed: the control asks whether honest training explains the finding, not whether any patch exists.
        """
        shorter = replace(
            self.search,
            max_mask_fraction=max_mask_fraction,
            small=1.0,
            restarts=max(1, self.search.restarts // 3),
            explore=max(1, 3 * self.search.explore // 5),
            early=False,
            finalists=2,
        )
        return replace(
            self, search=shorter, exploration="suspect" if self.exploration == "aimed" else self.exploration
        )

    def _control_reasr(
        self, case: Case, pair: ModelPair, evidence: Evidence, rng: torch.Generator, progress: Progress
    ) -> float:
        """REASR, in the reference alone, of a patch of at most twice the size found with the roles swapped."""
        assert case.reference is not None
        allowed = decision.control_limit(evidence)
        found = self.for_control(allowed).recover(
            pair.swapped(),
            generator(rng.initial_seed(), "control"),
            lambda stage, done, total: progress(f"control: {stage}", done, total),
        )
        with frozen(case.suspect, case.reference), torch.no_grad():
            stamped = found.trigger.apply(case.pixels)
            by_suspect, by_reference = (predict(model, stamped) for model in (case.suspect, case.reference))
        target, _ = most_frequent_target(by_reference, case.truth, evidence.num_classes)
        others = case.truth != target
        alone = others & (by_reference == target) & (by_suspect != target)
        return int(alone.sum()) / int(others.sum())


THOROUGH = Contrastive(
    search=SizeLimitedSearch(
        steps=60,
        lr=0.2,
        small=0.0,
        restarts=16,
        explore=80,
        early=False,
        batch_size=8,
        finalists=None,
        refine_batch_size=40,
        stride=10,
    ),
    exploration="full",
    half=False,
)
"""Costs many times the default; its patches come closer to the whole planted trigger."""
