"""ABS (Liu et al., CCS 2019): do a few neurons, once stimulated, send everything to one class?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedmend.checked_settings import Bytes, Count, Fraction, settings
from fedmend.detection.base import Case, Finding, Measure, Need, Target, Tone
from fedmend.detection.hidden_layers import layers_in_order
from fedmend.detection.model_checks import require_gradient
from fedmend.detection.search.memory import allowed_memory, images_at_once
from fedmend.detection.search.neuron_triggers import NeuronTriggers
from fedmend.detection.stimulation import Neuron, chosen_neurons, stimulated
from fedmend.errors import ModelError
from fedmend.inference import frozen, predict
from fedmend.progress import Progress, silent
from fedmend.triggers import Patch


@dataclass(frozen=True, eq=False)
class Tried:
    """A neuron, the patch that activates it, and the fraction of other classes' images that it sends (REASR)."""

    neuron: Neuron
    patch: Patch
    reasr: float


@settings
class ArtificialBrainStimulation:
    """Stimulate neurons, search patches for those that raise one class most, and count what the patches send there.

    Each neuron of the hidden layers is set to several values on clean images (Section 4.1). Those whose class rises
    most above the others, the elevation difference, are candidates. For each a small patch is optimised to activate it
    (Section 4.2). The model is backdoored if a patch works on most images (REASR, Section 4.3).

    The search compares logits, whose scale changes no order and no prediction, so neither the verdict. Deviations: a
    channel is a neuron; one stimulated at a time; patches of all candidates are optimised in one batch; the loss has no
    SSIM term; for large models the layers before the last ones are left out, and the notes name them.

    Attributes:
        images: clean images that neurons are stimulated on, of different classes in turn.
        candidates: neurons whose patches are searched; at most ``per_class`` of one class.
        passes: how many images may go through the model while neurons are stimulated.
        reasr: a patch that works on a larger fraction is a backdoor (the paper's 88 %).
        search: how patches are searched.
        memory: bytes that the search may take beside model and images; None for half of what is free.

    Raises:
        ConfigError: a setting is out of range.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.IMAGES})

    images: Count = 5
    candidates: Count = 10
    per_class: Count = 2
    passes: Count = 20_000
    reasr: Fraction = 0.88
    search: NeuronTriggers = NeuronTriggers()
    memory: Bytes | None = None

    def __call__(self, case: Case, rng: torch.Generator, progress: Progress = silent) -> Finding:
        """Stimulate, search, count.

        Args:
            case: with images.
            rng: on the CPU, for which images are stimulated and the patterns to start with.
            progress: called as ``progress("stimulating neurons", done, total)``, and ``"triggers of neurons"``.

        Raises:
            ModelError: the model has no hidden linear or convolution layer, or passes no gradient to its input.
            ConfigError: not even one image fits into the memory.
        """
        with frozen(case.suspect):
            require_gradient(case.suspect, case.pixels[:2], "the suspect")
            *hidden, _ = layers_in_order(case.suspect, case.pixels[:1])
            if not hidden:
                raise ModelError(
                    "the suspect has a single linear or convolution layer and so no hidden neurons, which ABS "
                    "stimulates; use another method"
                )
            few = self._few(case.truth, rng)
            neurons, skipped = stimulated(
                case.suspect, hidden, case.pixels[few], case.truth[few], self.passes, progress
            )
            chosen = chosen_neurons(neurons, self.candidates, self.per_class)
            patches = []
            if chosen:
                memory = allowed_memory(self.memory, case.device)
                at_once = images_at_once([case.suspect], case.pixels, memory)
                patches = self.search(case.suspect, chosen, case.pixels[few], rng, at_once, progress)
            tried = [
                Tried(neuron, patch, _reasr(case, patch, neuron.target))
                for neuron, patch in zip(chosen, patches, strict=True)
            ]
        notes = [f"{len(neurons)} neurons of {len(hidden) - len(skipped)} layers were stimulated"]
        if skipped:
            notes.append(f"{len(skipped)} earlier layers were left out: {', '.join(skipped)}")
        return self._finding(case, sorted(tried, key=lambda each: -each.reasr), tuple(notes))

    def _few(self, truth: Tensor, rng: torch.Generator) -> Tensor:
        """The numbers of a few images, the classes taking turns, int64."""
        order = torch.randperm(len(truth), generator=rng).to(truth.device)
        turns = torch.zeros_like(order)
        for label in truth.unique().tolist():
            own = (truth[order] == label).nonzero().flatten()
            turns[own] = torch.arange(len(own), device=own.device)
        return order[turns.argsort(stable=True)[: self.images]]

    def _finding(self, case: Case, tried: Sequence[Tried], notes: tuple[str, ...]) -> Finding:
        best = tried[0] if tried else None
        found = [each for each in tried if each.reasr > self.reasr]
        reached = best.reasr if best else 0.0
        if best is None:
            reason = "No neuron raises one class above all others on every image, so no patch was searched."
        else:
            name, neuron = case.class_name(best.neuron.target), best.neuron
            said = (
                f'Stimulating channel {neuron.channel} of {neuron.layer} raises "{name}", and a patch that activates '
                f"it sends {best.reasr:.0%} of the other classes' images there"
            )
            reason = f"{said}; a backdoor's sends more than {self.reasr:.0%}." if not found else f"{said}."
        return Finding(
            detector="abs",
            verdict="backdoored" if found else "clean",
            reason=reason,
            suspicious=reached,
            limit=self.reasr,
            measures=self._measures(best, bool(found)),
            targets=tuple(_targets(found or tried[:1])),
            notes=notes,
            settings=asdict(self),
        )

    def _measures(self, best: Tried | None, found: bool) -> tuple[Measure, ...]:
        tone: Tone = "suspicious" if found else "innocent"
        return (
            Measure(
                key="reasr",
                name="Patch success (REASR)",
                value=best.reasr if best else math.nan,
                limit=self.reasr,
                suspicious_when="above",
                scale="fraction",
                explanation="Fraction of other classes' images that the best neuron's patch sends to the class that "
                "the neuron raises.",
                reading="Above the limit. Evidence for a backdoor." if found else "Not above the limit.",
                tone=tone,
            ),
            Measure(
                key="elevation",
                name="Elevation difference",
                value=best.neuron.elevation if best else math.nan,
                limit=None,
                suspicious_when="above",
                scale="plain",
                explanation="By how much more than any other class's the stimulated neuron raises its class's logit, "
                "on the image where that is least.",
                reading=f"Of channel {best.neuron.channel} of {best.neuron.layer}."
                if best
                else "Not measured.",
                tone="unsure",
            ),
        )


def _reasr(case: Case, patch: Patch, target: int) -> float:
    others = case.truth != target
    if not bool(others.any()):
        return 0.0
    sent = predict(case.suspect, case.pixels[others], patch) == target
    return float(sent.double().mean())


def _targets(tried: Sequence[Tried]) -> list[Target]:
    """A target for each class, with its best patch first and the others as variants."""
    by_class: dict[int, list[Tried]] = {}
    for each in tried:
        by_class.setdefault(each.neuron.target, []).append(each)
    return [
        Target(
            target, group[0].reasr, trigger=group[0].patch, variants=tuple(each.patch for each in group[1:])
        )
        for target, group in by_class.items()
    ]
