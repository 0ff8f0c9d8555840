"""MM-BD (Wang, Xiang, Miller and Kesidis, IEEE S&P 2024): is one class's largest margin unusual?"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import ClassVar

import torch
from torch import Tensor

from fedmend.acceleration import accelerate
from fedmend.checked_settings import Bytes, Count, Flag, Fraction, Positive, settings
from fedmend.detection.base import Case, Finding, Measure, Need, Target
from fedmend.detection.gamma_null import calibrated_tail, tail_of_largest
from fedmend.detection.model_checks import require_gradient
from fedmend.detection.search.margin_ascent import MarginAscent
from fedmend.detection.search.memory import allowed_memory
from fedmend.errors import ConfigError
from fedmend.inference import frozen
from fedmend.model_cost import multiply_adds
from fedmend.progress import Progress, silent

_FEWEST = 4
_FEWEST_RESTARTS, _FEWEST_STEPS = 3, 30
_PASS = 3
"""A pass forward and backward takes three times the multiply-adds of one forward."""
_SMALLEST = 1e-3


@settings
class MaximumMargin:
    """For each class, maximise its logit's margin over all others over the whole input space; is the largest unusual?

    A backdoor lets one class win by more than any clean class can (Section III-B). The margins of all classes but the
    largest give a gamma distribution, and the p-value of the largest decides (Section III-C). No images are needed.

    The statistic depends on the logits as they are: multiplying all of them by a number changes no p-value, but a
    softmax would bound all margins by 1. Deviations: each image's gradient is scaled to the same length, so that the
    steps don't depend on the logits' scale; classes are optimised in one batch; the ascent ends when no class's margin
    grows; and the p-value is calibrated (see :func:`calibrated_tail`), unless ``calibrated`` is false. Uncalibrated,
    the rule calls far more than 5 % of models without an unusual class backdoored: of gamma numbers, 25 % with 10
    classes, 11 % with 43, 52 % with 4.

    Attributes:
        significance: a smaller p-value is a backdoor (the paper's 0.05).
        calibrated: whether 5 % means that 5 % of models without an unusual class look so.
        restarts: random images that the ascent starts from, of each class (the paper's 30).
        steps: most steps of the ascent (the paper's 300).
        lr: the root mean square of a step, of the pixels' range.
        work: multiply-adds that the ascent may take; for larger models restarts and steps are fewer, by the same
            factor, down to 3 and 30. The notes say how many there were.
        image_shape: (C, H, W), for a case without images.
        memory: bytes that the search may take beside the model; None for half of what is free.

    Raises:
        ConfigError: a setting is out of range.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()

    significance: Fraction = 0.05
    calibrated: Flag = True
    restarts: Count = 30
    steps: Count = 300
    lr: Positive = 0.02
    work: Positive = 16e12
    image_shape: tuple[Count, Count, Count] | None = None
    memory: Bytes | None = None

    def __call__(self, case: Case, rng: torch.Generator, progress: Progress = silent) -> Finding:
        """Search, fit, decide.

        Args:
            case: needs no more than the suspect, and its images' shape.
            rng: on the CPU, for the random starts.
            progress: called as ``progress("largest margins", step, steps)``.

        Raises:
            ConfigError: the images' shape is unknown, or not even one fits into the memory.
            ModelError: the model passes no gradient to its input, or returns NaN or infinity on noise.
        """
        like = self._like(case)
        with frozen(case.suspect):
            require_gradient(case.suspect, like[:1], "the suspect")
            faster = accelerate(case.suspect, like)
            with frozen(faster.model):
                with torch.no_grad():
                    classes = case.suspect(like[:1].clone()).shape[1]
                ascent = self._affordable(classes * multiply_adds(case.suspect, like[0]))
                found = ascent(faster.model, like, allowed_memory(self.memory, case.device), rng, progress)
        notes = (*faster.notes, f"{ascent.restarts} random starts a class; {found.note}")
        return self._finding(case, found.margins, rng, notes)

    def _affordable(self, cost: int) -> MarginAscent:
        """As many restarts and steps as the work allows.

        Args:
            cost: multiply-adds of one image of each class.
        """
        passes = self.work / (_PASS * max(1, cost))
        share = min(1.0, math.sqrt(passes / (self.restarts * self.steps)))
        restarts = min(self.restarts, max(_FEWEST_RESTARTS, int(self.restarts * share)))
        steps = min(self.steps, max(_FEWEST_STEPS, int(passes / restarts)))
        return MarginAscent(restarts, steps, self.lr)

    def _like(self, case: Case) -> Tensor:
        """A few images, which say shape, type and device."""
        if case.images is not None:
            return case.pixels[:8]
        if self.image_shape is None:
            raise ConfigError(
                "MM-BD needs no images, but their shape; give a case with images, or image_shape=(C, H, W)"
            )
        parameter = next(case.suspect.parameters(), torch.empty(0))
        return torch.full((8, *self.image_shape), 0.5, dtype=parameter.dtype, device=parameter.device)

    def _finding(self, case: Case, margins: Tensor, rng: torch.Generator, notes: tuple[str, ...]) -> Finding:
        target, largest = int(margins.argmax()), float(margins.max())
        name = case.class_name(target)
        others = margins[torch.arange(len(margins)) != target]
        typical = float(others.quantile(0.5)) if len(others) else math.nan
        p, why_not = self._p_value(margins, rng)
        unusual = p < self.significance
        said = f'The margin of "{name}" can reach {largest:.3g}, that of a typical other class {typical:.3g}'
        if why_not:
            reason = f"{said}. {why_not}"
        elif unusual:
            reason = f"{said}: by chance, so large a margin has a probability of {p:.2g}."
        else:
            reason = (
                f"{said}: not unusual, since so large a margin has a probability of {p:.2g} by chance. No class stands "
                "out."
            )
        return Finding(
            detector="mm-bd",
            verdict="inconclusive" if why_not else "backdoored" if unusual else "clean",
            reason=reason,
            suspicious=math.nan if why_not else -math.log10(max(p, 1e-300)),
            limit=-math.log10(max(self.significance, 1e-300)),
            measures=(
                Measure(
                    key="p_of_largest_margin",
                    name="Probability of the largest margin",
                    value=p,
                    limit=self.significance,
                    suspicious_when="below",
                    scale="fraction",
                    explanation="How often the largest of so many margins is this large or larger, if no class is "
                    "unusual. The report's single number is minus its decimal logarithm.",
                    reading=why_not
                    or ("Below the limit: one class stands out." if unusual else "Not unusual."),
                    tone="unsure" if why_not else "suspicious" if unusual else "innocent",
                ),
                Measure(
                    key="largest_margin",
                    name=f"Largest margin ({name})",
                    value=largest,
                    limit=None,
                    suspicious_when="above",
                    scale="plain",
                    explanation="By how much the class's logit can exceed all others on any image.",
                    reading=f"The median of the other classes is {typical:.3g}.",
                    tone="unsure",
                ),
            ),
            targets=(Target(target, math.nan),) if unusual and not why_not else (),
            notes=notes,
            settings=asdict(self),
        )

    def _p_value(self, margins: Tensor, rng: torch.Generator) -> tuple[float, str]:
        """The p-value of the largest margin, or NaN and why there is none."""
        if len(margins) < _FEWEST:
            return (
                math.nan,
                f"With {len(margins)} classes there are too few others to say whether that is unusual.",
            )
        positive = margins.clamp_min(_SMALLEST * float(margins.max().clamp_min(1e-12)))
        others = positive.sort().values[:-1]
        if float(others.max() - others.min()) <= 1e-6 * float(others.max()):
            return (
                math.nan,
                "The other classes' margins are all the same, so that nothing can be said of its size.",
            )
        if self.calibrated:
            return calibrated_tail(positive, rng.initial_seed()), ""
        return float(tail_of_largest(positive)), ""
