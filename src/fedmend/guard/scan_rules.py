"""The rules for a candidate that is scanned: what follows each verdict, a failure, and the end of the time."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from fedmend.detection import Detector, Need
from fedmend.guard.ledger import Accepted
from fedmend.guard.own_images import OwnImages
from fedmend.guard.references import DamagedHistoryError, reference_of, references_for
from fedmend.guard.rulings import Round, Ruling
from fedmend.guard.scans import Reference, Scanned, Scanner, worst
from fedmend.guard.time_limit import TimeLimitError, ending_in_time
from fedmend.guard.weights import Fault, State, model_with, received
from fedmend.progress import Progress
from fedmend.repairs import HoldOutGate, repair
from fedmend.repairs.held_out_images import images_learned_from
from fedmend.seeds import derive_seed
from fedmend.user_code import in_one_line

_COLLECTED = 10
"""After so many reviews, the cycles that searches leave are collected; else a server's memory grows slowly."""

_REPAIR_IMAGES = 1000
"""So many of the guard's images, at least as many as a scan looks at, are for a repair to learn and be judged by."""


def ruled_by_scans(
    of: Round,
    detectors: Sequence[Detector],
    measured: tuple[nn.Module, float],
) -> Ruling:
    """Scan a candidate, repair it if the policy says so, and decide.

    Whatever goes wrong, the last accepted model stays.

    Args:
        of: the round.
        detectors: one or more.
        measured: the candidate as a model, and its accuracy.

    Raises:
        DamagedHistoryError: a model to compare with isn't as the guard wrote it.
    """
    work = _Work(of, detectors, *measured)
    try:
        return ending_in_time(work.outcome, of.policy.time_limit, of.progress)
    except TimeLimitError:
        limit = of.policy.time_limit
        return work.gave_up("time limit", f"The review took longer than the limit of {limit:g} seconds.")
    except DamagedHistoryError:
        raise
    except Exception as error:  # a scan runs models and, maybe, a detector of the user's own
        return work.gave_up("scan failed", f"The review failed: {in_one_line(error)}.")
    finally:
        if of.ledger.reviews % _COLLECTED == 0:
            gc.collect()


@dataclass(eq=False)
class _Work:
    """The scans and the repair of one candidate; what they found so far is evidence even if they don't end."""

    of: Round
    detectors: Sequence[Detector]
    model: nn.Module
    accuracy: float
    references: Sequence[Reference] = ()
    scans: list[Scanned] = field(default_factory=list)
    rescans: list[Scanned] = field(default_factory=list)
    repair: dict[str, Any] | None = None

    def outcome(self, progress: Progress) -> Ruling:
        """Scan and decide."""
        scanner = Scanner(self.of.images, self.of.policy.images_per_class, self.of.seed, progress)
        self.references = references_for(self.of)
        for scanned in scanner.scans(self.model, self.detectors, self.references):
            self.scans.append(scanned)
        found = worst(self.scans)
        verdict = found.report.verdict
        if verdict == "clean":
            return self._concluded(Ruling("accept", verdict, found.said, self.of.candidate, self.accuracy))
        rejected = Ruling("rollback", verdict, found.said, withdrawn=self._doubtful(found))
        if verdict == "inconclusive" and self.of.policy.inconclusive == "rollback":
            return self._concluded(rejected)
        repaired, said = self._repaired(found, scanner)
        rejected = replace(rejected, reason=f"{found.said} {said}")
        if repaired is None:
            return self._concluded(rejected)
        state, accuracy = repaired
        return self._concluded(replace(rejected, action="repair", accepted=state, accepted_accuracy=accuracy))

    def gave_up(self, verdict: Any, reason: str) -> Ruling:
        """The outcome if scan or repair didn't end; the verdict of a scan that did end stands."""
        if any(each.report.verdict != "clean" for each in self.scans):
            found = worst(self.scans)
            verdict, reason = found.report.verdict, f"{found.said} No repair came of it: {reason}"
            return self._concluded(Ruling("rollback", verdict, reason, withdrawn=self._doubtful(found)))
        return self._concluded(Ruling("rollback", verdict, reason))

    def _concluded(self, outcome: Ruling) -> Ruling:
        return replace(outcome, scans=tuple(self.scans), rescans=tuple(self.rescans), repair=self.repair)

    def _doubtful(self, found: Scanned) -> tuple[int, ...]:
        """The accepted models that a backdoor may have come in with: those after an older reference that shows it.

        What a detector finds without a reference it shows of the candidate alone.
        """
        findings = zip(self.detectors, found.report.findings, strict=False)  # a check of the case may follow
        shown = any(Need.REFERENCE in by.needs and each.verdict == "backdoored" for by, each in findings)
        if not shown or found.reference is None:
            return ()
        numbers = [each.stored.number for each in self.of.ledger.models]
        return tuple(number for number in numbers if number > found.reference.accepted.stored.number)

    def _repaired(self, found: Scanned, scanner: Scanner) -> tuple[tuple[State, float] | None, str]:
        """A repaired model and its accuracy, if it may be released; and what was done, in sentences."""
        method = self.of.policy.made_repair()
        if method is None:
            return None, "The policy repairs nothing."
        report = replace(
            found.report, verdict="backdoored"
        )  # an inconclusive scan's triggers are unlearned, too
        gate = HoldOutGate(detector=self.detectors[0])
        seed = derive_seed(self.of.seed, "repair")
        images = self.of.images
        per_class = max(self.of.policy.images_per_class, -(-_REPAIR_IMAGES // images.num_classes))
        case = images.case(deepcopy(self.model), found.case.reference, per_class, seed)
        repaired, result = repair(
            case,
            report,
            method,
            gate,
            seed=seed,
            progress=scanner.progress,
        )
        self.repair = {
            "outcome": result.outcome,
            "reason": result.reason,
            "method": result.method,
            "accuracy_before": result.accuracy_before,
            "accuracy_after": result.accuracy_after,
            "seed": seed,
        }
        if repaired is None:
            tried = "No repair was tried" if result.outcome == "undecided" else "The repair was tried"
            return None, f"{tried}: {result.reason}"
        state = received(repaired, self.of.template)
        if isinstance(state, Fault):
            return None, f"The repair was tried, but its result can't be used: {state.reason}"
        model = model_with(state, self.of.template)  # only the weights are released
        others = images.without(images_learned_from(case, gate, result))
        accuracy = others.accuracy(model)
        low = self._not_accurate_enough(accuracy, others, self.of.ledger.last_without(self._doubtful(found)))
        if low is not None:
            return None, low
        again = replace(scanner, seed=derive_seed(self.of.seed, "scan of the repaired model"))
        for scanned in again.scans(model, self.detectors, self.references):
            self.rescans.append(scanned)
        left = worst(self.rescans)
        if left.report.verdict != "clean":
            return None, f"The repaired model was scanned again and isn't clean: {left.said}"
        return (state, accuracy), f"Repaired: {result.reason}"

    def _not_accurate_enough(self, accuracy: float, others: OwnImages, last: Accepted | None) -> str | None:
        """Why a repaired model isn't released, in a sentence; None if it may be.

        Args:
            accuracy: on the others. others: images that it didn't learn from.
            last: the model to which the federation would go back.
        """
        floor = self.of.policy.accuracy_floor
        said = f"The repaired model gets {accuracy:.1%} of the guard's other images right"
        if floor is not None and accuracy < floor:
            return f"{said}; the floor is {floor:.1%}."
        if last is None or accuracy >= (there := others.accuracy(reference_of(self.of, last).model)):
            return None
        return f"{said}, less than {last.said} ({there:.1%}), to which the federation goes back."
