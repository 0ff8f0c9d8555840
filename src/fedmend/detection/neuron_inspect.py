"""NeuronInspect (Huang, Alzantot and Srivastava, 2019, arXiv:1911.07399): is one class's heat map unusual?"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import ClassVar

import torch
from torch import Tensor

from fedmend.acceleration import accelerate
from fedmend.checked_settings import Bytes, NonNegative, Positive, settings
from fedmend.detection.anomaly_index import Anomaly, anomaly
from fedmend.detection.base import Case, Finding, Measure, Need, Target
from fedmend.detection.heat_maps import inconstancy, maps_of_classes, roughness, sparseness
from fedmend.detection.model_checks import require_gradient
from fedmend.detection.search.memory import allowed_memory
from fedmend.errors import ConfigError
from fedmend.inference import frozen
from fedmend.progress import Progress, silent


@settings
class NeuronInspect:
    """Compare what the classes' predictions rest on: a backdoor's pixels are few, together, and always the same.

    For each class, the heat maps of clean images (the gradient of its logit) give three features: sparse, smooth and
    persistent. Their weighted sum is low for an attacked class; the median absolute deviation judges how low. Heat maps
    are scaled to a maximum of 1, so the verdict doesn't depend on the logits' scale.

    Deviations: each feature is divided by its median over the classes, so that the weights compare like with like;
    smoothness is that of the Laplacian; persistence is the mean over all pairs of images; and features are averaged
    over images. With equal features in half of the classes or with two classes the index is degenerate, and the verdict
    inconclusive.

    Attributes:
        sparse, smooth, persistent: weights of the features.
        limit: an anomaly index further below the median is a backdoor (the paper's 2).
        memory: bytes that a gradient may take beside model and images; None for half of what is free.

    Raises:
        ConfigError: a setting is out of range, or all weights are 0.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.IMAGES})

    sparse: NonNegative = 1.0
    smooth: NonNegative = 1.0
    persistent: NonNegative = 1.0
    limit: Positive = 2.0
    memory: Bytes | None = None

    def __post_init__(self) -> None:
        if not self.sparse + self.smooth + self.persistent:
            raise ConfigError("NeuronInspect: at least one of sparse, smooth and persistent must be above 0")

    def __call__(self, case: Case, rng: torch.Generator, progress: Progress = silent) -> Finding:
        """Explain, compare, decide; nothing is random.

        Args:
            case: with images.
            rng: unused.
            progress: called as ``progress("heat maps", done, total)``.

        Raises:
            ModelError: the model passes no gradient to its input, or it is NaN or infinite.
            ConfigError: not even one image fits into the memory.
        """
        with frozen(case.suspect):
            require_gradient(case.suspect, case.pixels[:2], "the suspect")
            faster = accelerate(case.suspect, case.pixels)
            with frozen(faster.model):
                memory = allowed_memory(self.memory, case.device)
                classes = case.suspect_logits.shape[1]
                maps = maps_of_classes(faster.model, case.pixels, classes, memory, progress)
        features = {
            "sparse": sparseness(maps).mean(1),
            "smooth": roughness(maps).mean(1),
            "persistent": inconstancy(maps),
        }
        return self._finding(case, self.combined(features), features, faster.notes)

    def combined(self, features: dict[str, Tensor]) -> Tensor:
        """The weighted sum of the features, each in units of its median over the classes.

        Args:
            features: each (classes,), by the name of its weight.

        Returns:
            float64 (classes,), on the CPU.
        """
        total = 0.0
        for name, values in features.items():
            numbers = values.double().cpu()
            total = total + getattr(self, name) * numbers / numbers.quantile(0.5).clamp_min(1e-30)
        assert isinstance(total, Tensor)
        return total

    def _finding(
        self, case: Case, combined: Tensor, features: dict[str, Tensor], notes: tuple[str, ...]
    ) -> Finding:
        found = anomaly(combined)
        order = found.index.argsort().tolist()
        lowest = order[0]
        index = -float(found.index[lowest])
        flagged = [each for each in order if -float(found.index[each]) > self.limit]
        name = case.class_name(lowest)
        if found.degenerate:
            reason = f"The classes' heat maps can't be compared: {found.degenerate}."
        elif flagged:
            names = ", ".join(f'"{case.class_name(each)}"' for each in flagged)
            reason = (
                f"The predictions of {names} rest on unusually few, connected, constant pixels: {index:.1f} deviations "
                f"below the median class, where {self.limit:g} is the limit."
            )
        else:
            reason = (
                f'No class\'s heat maps stand out: "{name}" is {index:.1f} deviations below the median, and a backdoor '
                f"more than {self.limit:g}."
            )
        return Finding(
            detector="neuron-inspect",
            verdict="inconclusive" if found.degenerate else "backdoored" if flagged else "clean",
            reason=reason,
            suspicious=math.nan if found.degenerate else index,
            limit=self.limit,
            measures=(*self._measures(found, features, lowest, name), *self._sums(case, found, combined)),
            targets=tuple(Target(each, math.nan) for each in flagged),
            notes=notes,
            settings=asdict(self),
        )

    def _sums(self, case: Case, found: Anomaly, combined: Tensor) -> tuple[Measure, ...]:
        """Each class's sum of the features."""
        edge = None if found.degenerate else found.median - self.limit * found.deviation
        below = [edge is not None and value < edge for value in combined.tolist()]
        return tuple(
            Measure(
                key=f"class_{number}",
                name=f'Class "{case.class_name(number)}"',
                value=value,
                limit=edge,
                suspicious_when="below",
                scale="plain",
                explanation="The weighted sum of its three features, each in units of its median over the classes.",
                reading="Unusually low." if low else "Not unusual.",
                tone="suspicious" if low else "innocent",
            )
            for number, (value, low) in enumerate(zip(combined.tolist(), below, strict=True))
        )

    def _measures(
        self, found: Anomaly, features: dict[str, Tensor], lowest: int, name: str
    ) -> tuple[Measure, ...]:
        index = -float(found.index[lowest])
        above = index > self.limit
        judged = Measure(
            key="anomaly_index",
            name=f"Anomaly index ({name})",
            value=math.nan if found.degenerate else index,
            limit=self.limit,
            suspicious_when="above",
            scale="plain",
            explanation="How many deviations (1.4826 times the median absolute deviation) the class's sum of the three "
            "features is below the median class's.",
            reading=(
                f"Not measured: {found.degenerate}."
                if found.degenerate
                else "Unusual."
                if above
                else "Not unusual."
            ),
            tone="unsure" if found.degenerate else "suspicious" if above else "innocent",
        )
        told = {
            "sparse": "The mean of its heat maps: small if few pixels matter.",
            "smooth": "The mean absolute Laplacian of its heat maps: small if they are smooth.",
            "persistent": "The fraction of pixels that are important in one image and not in another: small if they "
            "stay the same.",
        }
        return (
            judged,
            *(
                Measure(
                    key=key,
                    name=f"{key.capitalize()} ({name})",
                    value=float(values[lowest]),
                    limit=None,
                    suspicious_when="below",
                    scale="plain",
                    explanation=told[key],
                    reading=f"The median of all classes is {float(values.double().quantile(0.5)):.3g}.",
                    tone="unsure",
                )
                for key, values in features.items()
            ),
        )
