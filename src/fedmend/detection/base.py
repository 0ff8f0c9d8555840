"""What a scan looks at, what a detector is, and what it can say."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from fedmend.detection.json_types import STRICT, JsonTrigger
from fedmend.errors import ConfigError
from fedmend.inference import batch_size_for, device_of, logits_of, pixels_for
from fedmend.progress import Progress
from fedmend.terminal_text import printable

Verdict = Literal["clean", "backdoored", "inconclusive"]
Tone = Literal["suspicious", "innocent", "unsure"]
Scale = Literal["fraction", "log", "plain"]
Side = Literal["above", "below"]


class Need(Enum):
    """What a detector requires."""

    REFERENCE = "a clean reference model"
    IMAGES = "clean images"
    LABELS = "the images' labels"


@dataclass(frozen=True, eq=False)
class Case:
    """What a scan looks at; :func:`fedmend.detection.scan` checks it.

    Attributes:
        suspect: the model in question: pixels in [0, 1], float (N, C, H, W), to logits (N, classes). Left as found.
        reference: a clean model of the same task on the same device, such as an earlier round's. Left as found.
        images: clean images (N, C, H, W), uint8 or float in [0, 1].
        labels: their true classes, int64 (N,).
        class_names: one name per class, for reports. Characters that could rewrite a terminal or can't be encoded are
            escaped, since names come with the data (see :func:`fedmend.terminal_text.printable`).
        expected_accuracy: what the models should get right of such images, in (0, 1], if that is known.
    """

    suspect: nn.Module
    reference: nn.Module | None = None
    images: Tensor | None = None
    labels: Tensor | None = None
    class_names: tuple[str, ...] | None = None
    expected_accuracy: float | None = None

    def __post_init__(self) -> None:
        if self.class_names is not None:
            object.__setattr__(self, "class_names", tuple(printable(str(name)) for name in self.class_names))

    @property
    def lacks(self) -> frozenset[Need]:
        """What a detector may need and this case doesn't have."""
        has = {Need.REFERENCE: self.reference, Need.IMAGES: self.images, Need.LABELS: self.labels}
        return frozenset(need for need, given in has.items() if given is None)

    @property
    def device(self) -> torch.device:
        """Where the suspect is."""
        return device_of(self.suspect)

    @cached_property
    def pixels(self) -> Tensor:
        """The images as the suspect takes them: float (N, C, H, W) in [0, 1], on its device."""
        if self.images is None:
            raise ConfigError(
                "the case has no images; a detector that uses them has Need.IMAGES among its needs"
            )
        return pixels_for(self.suspect, self.images)

    @cached_property
    def suspect_logits(self) -> Tensor:
        """The suspect's logits on the clean images, (N, classes)."""
        return _logits(self.suspect, self.pixels, "the suspect")

    @cached_property
    def reference_logits(self) -> Tensor:
        """The reference's logits on the clean images, (N, classes)."""
        if self.reference is None:
            raise ConfigError(
                "the case has no reference; a detector that uses it has Need.REFERENCE among its needs"
            )
        return _logits(self.reference, self.pixels, "the reference")

    @cached_property
    def truth(self) -> Tensor:
        """The labels, int64 (N,), on the suspect's device; without labels, predictions of the reference or suspect."""
        if self.labels is not None:
            return self.labels.to(self.device)
        return (self.suspect_logits if self.reference is None else self.reference_logits).argmax(1)

    def class_name(self, index: int) -> str:
        """The name of a class, or its number if classes have no names."""
        return str(index) if self.class_names is None else self.class_names[index]


@dataclass(frozen=True)
class Measure:
    """One number that a detector judges by, with everything a person needs to read it.

    Attributes:
        key: a short name for programs, such as ``reasr``.
        name: for people.
        value: the number; NaN where it could not be measured.
        limit: what it is compared with; None where there is no limit.
        suspicious_when: on which side of the limit it is suspicious.
        scale: "fraction", in [0, 1]; "log", positive, of any size; or "plain".
        explanation: what is measured, in a sentence.
        reading: what this value says, in a sentence.
        tone: whether it speaks for a backdoor, against one, or neither.
    """

    __pydantic_config__ = STRICT

    key: str
    name: str
    value: float
    limit: float | None
    suspicious_when: Side
    scale: Scale
    explanation: str
    reading: str
    tone: Tone


@dataclass(frozen=True, eq=False)
class Target:
    """A class to which a trigger sends images.

    Attributes:
        target: the class.
        success: fraction, in [0, 1], of the sources' images that the suspect sends there; NaN if the method names a
            class without a way to send images there.
        sources: the classes whose images are sent there; empty for all others.
        trigger: the recovered patch or addition, on the CPU, or None if the method recovers none.
        variants: further triggers that work, on the CPU, which a repair should unlearn, too.
    """

    __pydantic_config__ = STRICT

    target: int
    success: float
    sources: tuple[int, ...] = ()
    trigger: JsonTrigger | None = None
    variants: tuple[JsonTrigger, ...] = ()


@dataclass(frozen=True)
class Covered:
    """A family of backdoors, and whether a scan covers it.

    Attributes:
        family: its triggers and goal, such as "patch, one-to-one".
        sizes: of the triggers that are searched for, in words.
        searched: whether this scan searched for them.
        why_not: the reason if not, in words.
        left_out: source classes for which it did not, since too few images are of them.
        found, measured: in a benchmark, the method found ``found`` of ``measured`` such backdoors (of those in both
            models: didn't call them clean); None without one.
    """

    __pydantic_config__ = STRICT

    family: str
    sizes: str
    searched: bool
    why_not: str = ""
    left_out: tuple[int, ...] = ()
    found: int | None = None
    measured: int | None = None


@dataclass(frozen=True, eq=False)
class Finding:
    """What one detector says about a case.

    Attributes:
        detector: the method's name.
        verdict: the rule's decision on the measures.
        reason: the verdict in a sentence or two, for a person.
        suspicious: one number; higher is worse.
        limit: what ``suspicious`` is judged by; NaN if there is no limit.
        measures: what the verdict rests on.
        targets: the most suspicious first; empty if the method names none. A clean verdict may name the best candidate.
        warnings: why the finding may not be trustworthy.
        notes: how it was computed, such as in half precision.
        settings: the method's settings by name. A scan fills them in for a dataclass that leaves them out.
        loss_curve: of a search, one loss per step.
        stop_reason: why the search ended.
        seconds: how long it took. A scan fills it in for a method that leaves it out.
        p_value: how often an honest model would look at least as suspicious, in (0, 1]; None if that isn't known.
        coverage: which families of backdoors were searched for, and which were not; empty for a method that has none.
        poisoned: the images, by their numbers in the case from 0, that a method which judges images calls poisoned.
    """

    __pydantic_config__ = STRICT

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
    p_value: float | None = None
    coverage: tuple[Covered, ...] = ()
    poisoned: tuple[int, ...] = ()


class Detector(Protocol):
    """A method that looks for a backdoor: usually a frozen dataclass whose fields are its settings.

    It must not import ``fedmend.attacks``: a scan works on a stranger's model.
    """

    @property
    def needs(self) -> frozenset[Need]:
        """What a case must have; :func:`fedmend.detection.scan` checks it."""
        ...

    def __call__(self, case: Case, rng: torch.Generator, progress: Progress) -> Finding:
        """Look for a backdoor.

        Args:
            case: checked. A scan keeps its models in eval mode with frozen weights; leave them as found.
            rng: on the CPU; the only source of randomness.
            progress: called as ``progress(stage, done, total)``.
        """
        ...


def in_words(needs: Collection[Need]) -> str:
    """What is needed, as "a clean reference model and clean images"."""
    return " and ".join(need.value for need in Need if need in needs)


def measured(finding: Finding, key: str) -> Measure | None:
    """The finding's measure with this key, or None."""
    return next((measure for measure in finding.measures if measure.key == key), None)


def recovered(finding: Finding) -> Target | None:
    """The finding's first target with a trigger, or None."""
    return next((target for target in finding.targets if target.trigger is not None), None)


def most_suspicious(findings: Sequence[Finding]) -> Finding:
    """The finding with the worst verdict; the first of several."""
    order = {"backdoored": 0, "inconclusive": 1, "clean": 2}
    return min(findings, key=lambda finding: order[finding.verdict])


def _logits(model: nn.Module, pixels: Tensor, name: str) -> Tensor:
    """The model's logits, (N, classes), a few large images at a time."""
    batches = pixels.split(batch_size_for(pixels, most=max(1, len(pixels))))
    return torch.cat([logits_of(model, batch, name) for batch in batches])
