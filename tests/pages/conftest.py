from __future__ import annotations

from dataclasses import asdict

import pytest
import torch

from fedmend.detection.scan_report import Examples, ScanReport, Thresholds, Verdict
from fedmend.federation import RoundRecord
from fedmend.pages import AttackEvaluation, PruneEvaluation, ReportContents
from fedmend.repairs.repairing import RepairReport
from fedmend.repairs.vote_pruning import PruneReport, Pruning, Stage, VotedTrigger
from fedmend.triggers import Patch


class Made:
    """Made-up results, complete and consistent, of any shape."""

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

    @classmethod
    def scan(
        cls,
        verdict: Verdict = "backdoored",
        *,
        channels: int = 1,
        side: int = 28,
        names: tuple[str, ...] = ("cat", "dog", "owl"),
        count: int = 10,
        **changes: object,
    ) -> ScanReport:
        found = verdict == "backdoored"
        labels = torch.arange(count) % len(names)
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8, generator=generator)
        stamped = torch.zeros_like(labels) if found else labels
        values: dict[str, object] = {
            "verdict": verdict,
            "reason": f"Reason for {verdict}.",
            "paper_verdict": "backdoored" if found else "clean",
            "target_class": 0,
            "reasr": 0.931 if found else 0.15,
            "mse": 125.4 if found else 0.001,
            "reference_agreement": 0.071,
            "suspect_accuracy": 0.9,
            "reference_accuracy": 0.8667,
            "thresholds": Thresholds(),
            "trigger": cls.trigger(channels, side),
            "loss_curve": tuple(1 / (step + 1) for step in range(60)),
            "steps": 60,
            "stop_reason": "nothing changed any more.",
            "seconds": 6.43,
            "num_images": 30,
            "class_names": names,
            "method": "contrastive",
            "settings": {"alpha": 0.1, "steering": {"patience": 10}},
            "seed": 7,
            "device": "cpu",
            "versions": {"fedmend": "0.1.0", "torch": "2.13.0"},
            "examples": Examples(images, labels, labels, stamped, labels),
            "warnings": (),
        }
        return ScanReport(**(values | changes))  # type: ignore[arg-type]

    @staticmethod
    def repair(**changes: object) -> RepairReport:
        values: dict[str, object] = {
            "outcome": "repaired",
            "reason": "The trigger's success fell to 1.2%.",
            "method": "unlearning",
            "settings": {"epochs": 1},
            "seconds": 3.2,
            "accuracy_before": 0.871,
            "accuracy_after": 0.867,
            "accuracy_error": 0.004,
            "num_heldout": 1000,
            "max_accuracy_drop": 0.01,
            "reasr_before": 0.928,
            "reasr_after": 0.012,
            "passes": 2,
            "triggers": 1,
            "verdict_after": "clean",
            "warnings": ("Few held-out images.",),
        }
        return RepairReport(**(values | changes))  # type: ignore[arg-type]

    @classmethod
    def attack(cls) -> AttackEvaluation:
        return AttackEvaluation("dba", 0, cls.trigger(), 0.8712, 0.981, 0.8669, 0.013, 2000)

    @classmethod
    def pruning(cls, channels: int = 6, **changes: object) -> PruneReport:
        values: dict[str, object] = {
            "outcome": "pruned",
            "reason": "3 of 6 channels pruned.",
            "layer": "conv2",
            "channels": channels,
            "vote": "ranking",
            "ballots": 87,
            "refused": {"ranks out of range": 4, "a second ballot of one client": 2},
            "missing": 9,
            "sequence": (*range(5, -1, -1), *range(6, channels)),
            "points": (0, 1, 2, 3, 4, 5),
            "accuracies": (0.913, 0.912, 0.911, 0.9061, 0.7512, 0.1015),
            "pruned": (5, 4, 3),
            "stages": cls.STAGES,
            "extreme": tuple((index, 30 + index, 1, 2) for index in range(12)),
            "values": tuple((-1) ** index * (0.9 - 0.05 * index) for index in range(12)),
            "settings": asdict(Pruning(adjust_first=True)),
            "max_accuracy_drop": 0.05,
            "seconds": 312.0,
            "warnings": ("Few ballots.",),
        }
        return PruneReport(**(values | changes))  # type: ignore[arg-type]

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
    def unadjusted(cls, **changes: object) -> PruneReport:
        """As of ``Pruning(delta=None)``: no stage adjusts weights."""
        kept = tuple(stage for stage in cls.STAGES if not stage.name.startswith("adjusted"))
        return cls.pruning(
            stages=kept, extreme=(), values=(), settings=asdict(Pruning(delta=None)), **changes
        )

    @staticmethod
    def prune_evaluation(**changes: object) -> PruneEvaluation:
        values: dict[str, object] = {
            "asr_along": (0.981, 0.972, 0.634, 0.417, 0.052, 0.011),
            "accuracy": (0.9113, 0.9014, 0.8966, 0.9082, 0.9044),
            "asr": (0.982, 0.418, 0.185, 0.096, 0.023),
            "num_images": 2000,
        }
        return PruneEvaluation(**(values | changes))  # type: ignore[arg-type]

    @staticmethod
    def record(number: int, **changes: object) -> RoundRecord:
        values: dict[str, object] = {
            "round": number,
            "accuracy": 0.5 + 0.03 * number,
            "asr": 0.9 if number > 6 else 0.02,
            "clients": (3, 5),
            "attackers": (3,) if number > 6 else (),
            "seconds": 1.5,
        }
        return RoundRecord(**(values | changes))  # type: ignore[arg-type]

    @classmethod
    def rounds(cls, count: int = 12) -> tuple[RoundRecord, ...]:
        return tuple(cls.record(number) for number in range(1, count + 1))

    @classmethod
    def everything(cls, verdict: Verdict = "backdoored") -> ReportContents:
        return ReportContents(
            title="A federation under attack",
            scan=cls.scan(verdict),
            repair=cls.repair(),
            attack=cls.attack(),
            rounds=cls.rounds(),
            reference_round=6,
            suspect_round=12,
            first_attack_round=7,
            settings={"seed": 0, "data": {"source": "fashion-mnist-sample"}, "attack": None},
        )


@pytest.fixture
def made() -> type[Made]:
    return Made
