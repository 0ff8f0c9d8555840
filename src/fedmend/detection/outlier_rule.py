"""The rule of detectors that compare one number of every class: an unusually low one is a backdoor. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from fedmend.detection.anomaly_index import Anomaly
from fedmend.detection.base import Finding, Measure, Target, Tone, Verdict
from fedmend.triggers import Addition, Patch

LIMIT = 2.0
"""An anomaly index beyond this is an outlier with over 95 % probability (Neural Cleanse, Section IV)."""


@dataclass(frozen=True, eq=False)
class Compared:
    """One number of every class, low where a backdoor is, and how they compare.

    Attributes:
        what: the number, in words for a sentence, such as "the mask's L1 norm".
        unit: behind the number, such as "pixels", or nothing.
        values: (classes,).
        eligible: whether a trigger that works stands behind the number, bool (classes,).
        anomaly: of the values.
        limit: the index beyond which a class is flagged.
        class_name: from a class's number to its name.
    """

    what: str
    unit: str
    values: Tensor
    eligible: Tensor
    anomaly: Anomaly
    limit: float
    class_name: Callable[[int], str]

    @property
    def unjudged(self) -> str | None:
        """Why the numbers say nothing, in words; None if they do."""
        if not bool(self.eligible.any()):
            return "no trigger that works was found for any class"
        return self.anomaly.degenerate

    @property
    def scores(self) -> list[float]:
        """How far each class lies below the median, in consistent deviations; negative above it."""
        return [-index for index in self.anomaly.index.tolist()]

    @property
    def flagged(self) -> tuple[int, ...]:
        """The classes beyond the limit and below the median, the furthest first."""
        order = sorted(enumerate(self.scores), key=lambda each: -each[1])
        return tuple(number for number, score in order if score > self.limit and bool(self.eligible[number]))

    @property
    def lowest(self) -> int:
        """The class furthest below the median of those that are eligible; of all if none is."""
        scores, eligible = self.scores, self.eligible.tolist()
        among = [number for number, allowed in enumerate(eligible) if allowed] or range(len(scores))
        return max(among, key=scores.__getitem__)


def judged(
    name: str, compared: Compared, triggers: Sequence[Patch | Addition], success: Callable[[int], float]
) -> Finding:
    """The finding: backdoored if a class is flagged, inconclusive if the numbers can't be compared, else clean.

    They can't be where no class's trigger works: then the search has failed, and says nothing of the model.

    Args:
        name: the detector's.
        compared: the numbers.
        triggers: the one recovered for each class.
        success: from a class to the fraction of other classes' images that its trigger sends there.
    """
    verdict, reason = _decided(compared)
    targets = tuple(
        Target(number, success(number), trigger=triggers[number].to("cpu")) for number in compared.flagged
    )
    return Finding(
        detector=name,
        verdict=verdict,
        reason=reason,
        suspicious=math.nan if compared.unjudged else compared.scores[compared.lowest],
        limit=compared.limit,
        measures=tuple(_measures(compared)),
        targets=targets,
    )


def _decided(compared: Compared) -> tuple[Verdict, str]:
    anomaly, lowest = compared.anomaly, compared.lowest
    if compared.unjudged:
        return "inconclusive", f"The classes can't be compared by {compared.what}: {compared.unjudged}."
    if compared.flagged:
        named = ", ".join(
            f'"{compared.class_name(number)}" ({_said(compared, number)})' for number in compared.flagged
        )
        return "backdoored", (
            f"By {compared.what}, a trigger is unusually easy to find for {named}, where the classes' median is "
            f"{anomaly.median:.3g}{_unit(compared)}; an index beyond {compared.limit:g} is an outlier."
        )
    return "clean", (
        f'By {compared.what}, no class is an outlier: the lowest is "{compared.class_name(lowest)}" '
        f"({_said(compared, lowest)}), the median {anomaly.median:.3g}{_unit(compared)}, and an index up to "
        f"{compared.limit:g} is usual."
    )


def _said(compared: Compared, number: int) -> str:
    return (
        f"{float(compared.values[number]):.3g}{_unit(compared)}, anomaly index {compared.scores[number]:.1f}"
    )


def _unit(compared: Compared) -> str:
    return f" {compared.unit}" if compared.unit else ""


def _measures(compared: Compared) -> list[Measure]:
    """The anomaly index by which the verdict falls, and the number of each class."""
    anomaly, lowest = compared.anomaly, compared.lowest
    unknown = compared.unjudged is not None
    index = math.nan if unknown else compared.scores[lowest]
    measures = [
        Measure(
            key="anomaly_index",
            name="Anomaly index",
            value=index,
            limit=compared.limit,
            suspicious_when="above",
            scale="plain",
            explanation=f"How far the lowest class lies below the classes' median by {compared.what}, in median "
            "absolute deviations times 1.4826.",
            reading=f"Not measured: {compared.unjudged}."
            if unknown
            else f'It is that of "{compared.class_name(lowest)}".',
            tone="unsure" if unknown else "suspicious" if compared.flagged else "innocent",
        )
    ]
    edge = None if unknown else anomaly.median - compared.limit * anomaly.deviation
    for number, value in enumerate(compared.values.tolist()):
        reading, tone = _reading(compared, number)
        measures.append(
            Measure(
                key=f"class_{number}",
                name=f'Class "{compared.class_name(number)}"',
                value=value,
                limit=edge,
                suspicious_when="below",
                scale="plain",
                explanation=f"Of the trigger found for this class: {compared.what}{_in(compared)}.",
                reading=reading,
                tone=tone,
            )
        )
    return measures


def _in(compared: Compared) -> str:
    return f", in {compared.unit}" if compared.unit else ""


def _reading(compared: Compared, number: int) -> tuple[str, Tone]:
    if compared.unjudged:
        return "Not comparable.", "unsure"
    if not bool(compared.eligible[number]):
        return "No trigger that works was found.", "innocent"
    score = compared.scores[number]
    if score > compared.limit:
        return f"Anomaly index {score:.1f}: an outlier. Evidence for a backdoor.", "suspicious"
    side = "below" if score > 0 else "above"
    return f"Anomaly index {abs(score):.1f}, {side} the median: usual.", "innocent"
