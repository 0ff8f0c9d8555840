"""Made-up results, complete and consistent, of any shape."""

from __future__ import annotations

from typing import Any

import torch

from fedmend.detection.base import Finding, Measure, Target, Verdict
from fedmend.detection.scan_report import Examples, ScanReport
from fedmend.pages import (
    AttackedRound,
    AttackEvaluation,
    PageContents,
    PlantedAttack,
    PruneEvaluation,
    Round,
)
from fedmend.repairs.repair_report import (
    PruningDetails,
    RepairReport,
    Stage,
    TargetCheck,
    UnlearningDetails,
    VotedTrigger,
)
from fedmend.triggers import Patch


class Made:
    """Results of a scan, a repair and a federation; ``changes`` replace values by name."""

    STAGES = (
        Stage("suspect", 0.913, 0),
        Stage("pruned", 0.9061, 864),
        Stage("adjusted", 0.8995, 41, 3.0),
        Stage("fine-tuned", 0.9102, 0),
        Stage("adjusted again", 0.9077, 1234, 2.75),
    )

    @staticmethod
    def trigger(channels: int = 1, side: int = 28) -> Patch:
        mask = torch.zeros(1, side, side)
        mask[0, 2:5, 2:5] = 0.9
        return Patch(mask, torch.full((channels, side, side), 0.8))

    @staticmethod
    def measure(**changes: Any) -> Measure:
        values = {
            "key": "success",
            "name": "Patch success",
            "value": 0.931,
            "limit": 0.8,
            "suspicious_when": "above",
            "scale": "fraction",
            "explanation": "Fraction of stamped images that the suspect sends to the target.",
            "reading": "Above the limit: speaks for a backdoor.",
            "tone": "suspicious",
        }
        return Measure(**(values | changes))

    @classmethod
    def measures(cls) -> tuple[Measure, ...]:
        return (
            cls.measure(),
            cls.measure(key="mse", name="Feature change", value=125.4, limit=10.0, scale="log"),
            cls.measure(
                key="agreement",
                name="Reference agreement",
                value=0.071,
                limit=0.5,
                suspicious_when="below",
                reading="Below the limit: the reference isn’t fooled.",
            ),
            cls.measure(
                key="size", name="Pixels", value=8.1, limit=None, scale="plain", tone="unsure", reading="Small."
            ),
        )  # fmt: skip

    @classmethod
    def finding(cls, verdict: Verdict = "backdoored", **changes: Any) -> Finding:
        values = {
            "detector": "differential",
            "verdict": verdict,
            "reason": f"Reason for {verdict}.",
            "suspicious": 0.931,
            "limit": 0.8,
            "measures": cls.measures(),
            "targets": (Target(0, 0.931, trigger=cls.trigger(), variants=(cls.trigger(),)),),
            "notes": ("Searched in half precision.",),
            "settings": {"alpha": 0.1, "steering": {"patience": 10}},
            "loss_curve": tuple(1 / (step + 1) for step in range(60)),
            "stop_reason": "nothing changed any more.",
            "seconds": 6.43,
        }
        return Finding(**(values | changes))

    @staticmethod
    def examples(
        detector: str = "differential", count: int = 8, channels: int = 1, side: int = 28
    ) -> Examples:
        labels = torch.arange(count) % 3
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8, generator=generator)
        return Examples(detector, 0, images, labels, labels, torch.zeros_like(labels), labels)

    @classmethod
    def scan(cls, verdict: Verdict = "backdoored", **changes: Any) -> ScanReport:
        values = {
            "verdict": verdict,
            "reason": f"Reason for {verdict}.",
            "findings": (cls.finding(verdict),),
            "suspect_accuracy": 0.9,
            "reference_accuracy": 0.8667,
            "num_images": 30,
            "class_names": ("cat", "dog", "owl"),
            "seed": 7,
            "device": "cpu",
            "versions": {"fedmend": "0.1.0", "torch": "2.13.0"},
            "seconds": 7.1,
            "examples": (cls.examples(),),
        }
        return ScanReport(**(values | changes))

    @classmethod
    def scan_of(cls, finding: Finding, **changes: Any) -> ScanReport:
        """A scan with this finding alone."""
        return cls.scan(finding.verdict, **({"findings": (finding,)} | changes))

    @staticmethod
    def repair(**changes: Any) -> RepairReport:
        values = {
            "outcome": "repaired",
            "reason": "The trigger's success fell to 1.2%.",
            "method": "unlearning",
            "settings": {"epochs": 1},
            "seconds": 3.2,
            "accuracy_before": 0.871,
            "accuracy_after": 0.867,
            "accuracy_error": 0.004,
            "num_judged": 1000,
            "num_heldout": 1000,
            "max_accuracy_drop": 0.01,
            "verdict_after": "clean",
            "target_checks": (TargetCheck(0, (), 0.928, 0.012),),
            "details": UnlearningDetails(passes=2, triggers=5),
            "warnings": ("Few held-out images.",),
        }
        return RepairReport(**(values | changes))

    @classmethod
    def pruning(cls, **changes: Any) -> PruningDetails:
        values = {
            "layer": "conv2",
            "channels": 6,
            "vote": "ranking",
            "ballots": 87,
            "refused": {"ranks out of range": 4, "a second ballot of one client": 2},
            "missing": 9,
            "sequence": (*range(5, -1, -1), *range(6, int(changes.get("channels", 6)))),
            "points": (0, 1, 2, 3, 4, 5),
            "accuracies": (0.913, 0.912, 0.911, 0.9061, 0.7512, 0.1015),
            "pruned": (5, 4, 3),
            "stages": cls.STAGES,
            "extreme": tuple((index, 30 + index, 1, 2) for index in range(12)),
            "values": tuple((-1) ** index * (0.9 - 0.05 * index) for index in range(12)),
        }
        return PruningDetails(**(values | changes))

    @classmethod
    def pruned(cls, details: PruningDetails | None = None, **changes: Any) -> RepairReport:
        """A repair by pruning, without a scan before or after."""
        values = {
            "outcome": "unverified",
            "reason": "3 of 6 channels pruned.",
            "method": "pruning",
            "settings": {"adjust_first": True, "max_drop": 0.01},
            "seconds": 312.0,
            "accuracy_before": 0.913,
            "accuracy_after": 0.9077,
            "num_judged": 0,
            "num_heldout": 0,
            "max_accuracy_drop": 0.05,
            "verdict_after": None,
            "target_checks": (),
            "details": details or cls.pruning(),
            "warnings": ("Few ballots.",),
        }
        return cls.repair(**(values | changes))

    @staticmethod
    def found(
        source: int = 9,
        target: int = 7,
        rate: float = 0.97,
        client: int = 0,
        pixels: tuple[tuple[int, int], ...] = ((2, 3), (2, 5), (4, 3)),
    ) -> VotedTrigger:
        return VotedTrigger(client, source, target, rate, pixels)

    @classmethod
    def unadjusted(cls, **changes: Any) -> PruningDetails:
        """Of a repair in which no stage adjusts weights."""
        kept = tuple(stage for stage in cls.STAGES if not stage.name.startswith("adjusted"))
        return cls.pruning(stages=kept, extreme=(), values=(), **changes)

    @staticmethod
    def prune_evaluation(**changes: Any) -> PruneEvaluation:
        values = {
            "asr_along": ((0.981,), (0.972,), (0.634,), (0.417,), (0.052,), (0.011,)),
            "accuracy": (0.9113, 0.9014, 0.8966, 0.9082, 0.9044),
            "asr": ((0.982,), (0.418,), (0.185,), (0.096,), (0.023,)),
            "num_images": 2000,
        }
        return PruneEvaluation(**(values | changes))

    @classmethod
    def attack(cls, **changes: Any) -> PlantedAttack:
        """An attack with a patch; ``patch`` and ``example`` aside, changes are of its settings."""
        pictures = {"patch": changes.pop("patch", cls.trigger()), "example": changes.pop("example", None)}
        table = {
            "trigger": {"kind": "patch", "shape": "+", "parts": 4},
            "goal": {"kind": "all-to-one", "target": 0},
            "first_round": 7,
            "attackers": 2,
            "update": [{"kind": "amplify", "factor": 4.0}],
        }
        return PlantedAttack(table | changes, **pictures)

    @staticmethod
    def evaluation() -> AttackEvaluation:
        return AttackEvaluation(2000, 0.8712, (0.981,), 0.8669, (0.013,))

    @staticmethod
    def rounds(count: int = 12) -> tuple[Round, ...]:
        return tuple(Round(number, 0.5 + 0.03 * number) for number in range(1, count + 1))

    @staticmethod
    def attacked_rounds(count: int = 12, attacks: int = 1) -> tuple[AttackedRound, ...]:
        return tuple(
            AttackedRound(
                number,
                (3,) if number > 6 else (),
                tuple((0.9 - 0.2 * attack) if number > 6 else 0.02 for attack in range(attacks)),
            )
            for number in range(1, count + 1)
        )

    @classmethod
    def everything(cls, verdict: Verdict = "backdoored", **changes: Any) -> PageContents:
        values = {
            "title": "A federation under attack",
            "scan": cls.scan(verdict),
            "repair": cls.repair(),
            "rounds": cls.rounds(),
            "attacks": (cls.attack(),),
            "attacked_rounds": cls.attacked_rounds(),
            "evaluation": cls.evaluation(),
            "reference_round": 6,
            "suspect_round": 12,
            "settings": {"seed": 0, "data": {"source": "fashion-mnist-sample"}, "attack": None},
        }
        return PageContents(**(values | changes))
