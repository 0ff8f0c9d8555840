"""What a scan looks at, what a detector is, and what it can say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from fedmend.inference import device_of, frozen, pixels_for
from fedmend.progress import Progress
from fedmend.triggers import Patch

Verdict = Literal["clean", "backdoored", "inconclusive"]
Tone = Literal["suspicious", "innocent", "unsure"]


class Need(Enum):
    """What a detector can't do without."""

    REFERENCE = "a clean reference model"
    IMAGES = "clean images"
    LABELS = "the images' labels"


@dataclass(frozen=True, eq=False)
class Case:
    """What a scan looks at. :func:`fedmend.detection.scan` checks it.

    Attributes:
        suspect: the model in question: pixels in [0, 1], float (N, C, H, W), to logits (N, classes). Left as found.
        reference: a clean model of the same task, on the same device; an earlier round's, for example.
        images: clean images (N, C, H, W), uint8 or float in [0, 1].
        labels: their true classes, int64 (N,).
        class_names: a name a class, for reports.
    """

    suspect: nn.Module
    reference: nn.Module | None = None
    images: Tensor | None = None
    labels: Tensor | None = None
    class_names: tuple[str, ...] | None = None

    @property
    def device(self) -> torch.device:
        """Where the suspect is."""
        return device_of(self.suspect)

    @cached_property
    def pixels(self) -> Tensor:
        """The images as the suspect takes them: float (N, C, H, W) in [0, 1], on its device."""
        assert self.images is not None
        return pixels_for(self.suspect, self.images)

    @cached_property
    def suspect_logits(self) -> Tensor:
        """The suspect's logits on the clean images, (N, classes)."""
        return _logits(self.suspect, self.pixels)

    @cached_property
    def reference_logits(self) -> Tensor:
        """The reference's logits on the clean images, (N, classes)."""
        assert self.reference is not None
        return _logits(self.reference, self.pixels)

    @cached_property
    def truth(self) -> Tensor:
        """The labels, int64 (N,), on the suspect's device; without labels, the reference's or else the suspect's
        predictions stand in."""
        if self.labels is not None:
            return self.labels.to(self.device)
        return (self.suspect_logits if self.reference is None else self.reference_logits).argmax(1)


@dataclass(frozen=True)
class Measure:
    """One number that a detector judges by, with all that a person needs to read it.

    Attributes:
        key: a short name for programs, such as ``reasr``.
        name: for people.
        value: the number; NaN where it could not be measured.
        limit: what it is compared with; None where there is no limit.
        suspicious_when: on which side of the limit it is suspicious.
        scale: "fraction", in [0, 1]; "log", positive, of any size; or "plain".
        explanation: what is measured, in a sentence.
        reading: what this value says, in a sentence.
        tone: what it speaks for.
    """

    key: str
    name: str
    value: float
    limit: float | None
    suspicious_when: Literal["above", "below"]
    scale: Literal["fraction", "log", "plain"]
    explanation: str
    reading: str
    tone: Tone


@dataclass(frozen=True, eq=False)
class Target:
    """A class to which a trigger sends images.

    Attributes:
        target: the class. sources: the classes whose images are sent there; empty for all others.
        success: fraction, in [0, 1], of the sources' images that the suspect sends there.
        trigger: the recovered patch, on the CPU, or None where the method recovers none.
        variants: further patches that work, which a repair should unlearn, too.
    """

    target: int
    success: float
    sources: tuple[int, ...] = ()
    trigger: Patch | None = None
    variants: tuple[Patch, ...] = ()


@dataclass(frozen=True, eq=False)
class Finding:
    """What one detector says about a case.

    Attributes:
        detector: the method's name. settings: its settings, by name.
        verdict: what ``decision.py`` makes of the measures; reason: the same in a sentence or two.
        suspicious: one number, higher is worse. limit: what it is judged by; NaN where there is none.
        measures: what the verdict rests on.
        targets: the most suspicious first; empty where nothing was found or the method names none.
        warnings: why it may not be trustworthy.
        notes: how it was computed, such as in half precision.
        loss_curve: of a search, a value a step. stop_reason: why the search ended.
        seconds: how long it took.
    """

    detector: str
    verdict: Verdict
    reason: str
    suspicious: float
    limit: float
    measures: tuple[Measure, ...] = ()
    targets: tuple[Target, ...] = ()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    loss_curve: tuple[float, ...] = ()
    stop_reason: str = ""
    seconds: float = 0.0
    other_rules: dict[str, Verdict] = field(default_factory=dict)


class Detector(Protocol):
    """A method that looks for a backdoor: a frozen dataclass whose fields are its settings.

    It must not import from ``fedmend.attacks``: a scan works on a stranger's model.
    """

    @property
    def needs(self) -> frozenset[Need]:
        """What a case must have; :func:`fedmend.detection.scan` checks it."""
        ...

    def __call__(self, case: Case, rng: torch.Generator, progress: Progress) -> Finding:
        """Look for a backdoor.

        Args:
            case: checked; it and its models are left as found.
            rng: on the CPU; where all chance comes from.
            progress: called as ``progress(stage, done, total)``.
        """
        ...


def measured(finding: Finding, key: str) -> Measure | None:
    """The finding's measure of that key, or None."""
    return next((measure for measure in finding.measures if measure.key == key), None)


def most_suspicious(findings: Sequence[Finding]) -> Finding:
    """The finding of the worst verdict; of equal ones the first."""
    order = {"backdoored": 0, "inconclusive": 1, "clean": 2}
    return min(findings, key=lambda finding: order[finding.verdict])


def _logits(model: nn.Module, pixels: Tensor) -> Tensor:
    with frozen(model), torch.no_grad():
        logits: Tensor = model(pixels.clone())  # a model may work in place
        return logits
