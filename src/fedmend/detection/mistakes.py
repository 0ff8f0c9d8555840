"""Configuration mistakes, which make a scan say nothing: noticed by accuracy before a search begins."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedmend.detection import accuracy_rules as rules
from fedmend.detection.base import Case, Finding, Measure
from fedmend.detection.class_order import other_order
from fedmend.seeds import generator

_MOST_TRIED, _BATCH = 400, 25
"""Images that a variant is tried on, batch by batch as long as it may explain the errors."""
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Doubt:
    """Why a clean verdict on a case would be worth nothing.

    Attributes:
        finding: what the report says instead of, or beside, the detectors' findings.
        stops: whether a search would be in vain.
    """

    finding: Finding
    stops: bool


@dataclass(frozen=True)
class _Variant:
    """Other pixels, what they are, and what to do if a model does better on them."""

    pixels: Tensor
    what: str
    advice: str


def doubt(case: Case) -> Doubt | None:
    """The gravest sign of a mistake, or None.

    With labels, each model's accuracy is compared with chance, with ``case.expected_accuracy`` and with the other
    model's. Where it could be higher, the likeliest mistakes are tried out: another order of the classes, and other
    pixels (normalised, 0 to 255, channels swapped, inverted).

    Args:
        case: with images; checked.
    """
    accuracies = {name: _accuracy(logits, case) for name, logits in _logits(case).items()}
    found = next(_stopping(case, accuracies), None)
    reason = found or next(_unsettling(case, accuracies), None)
    if reason is None:
        return None
    measures = tuple(_measure(name, value, case) for name, value in accuracies.items() if value is not None)
    finding = Finding(
        detector="case-check",
        verdict="inconclusive",
        reason=reason,
        suspicious=math.nan,
        limit=math.nan,
        measures=measures,
        stop_reason="a configuration mistake is likely" if found else "",
    )
    return Doubt(finding, stops=found is not None)


def _stopping(case: Case, accuracies: dict[str, float | None]) -> Iterator[str]:
    if case.labels is not None:
        for name, model in (("reference", case.reference), ("suspect", case.suspect)):
            if model is not None:
                yield from _explained(name, model, case)
    for name, logits in _logits(case).items():
        predicted, right = logits.argmax(1), float((logits.argmax(1) == case.truth).float().mean())
        if len(predicted.unique()) == 1 and right < rules.fair_accuracy(_classes(case)):
            yield rules.one_class(name, case.class_name(int(predicted[0])))
    for name, value in accuracies.items():
        if value is not None:
            yield from rules.far_from_expected(name, value, case.expected_accuracy, len(case.truth))
            yield from rules.hardly_better_than_chance(name, value, _classes(case))


def _unsettling(case: Case, accuracies: dict[str, float | None]) -> Iterator[str]:
    reference, suspect = accuracies.get("reference"), accuracies["suspect"]
    for name, value in accuracies.items():
        if value is not None and case.expected_accuracy is None:
            yield from rules.unusually_low(name, value, _classes(case))
    if case.labels is not None and reference is not None and suspect is not None:
        yield from rules.far_below_reference(suspect, reference, len(case.truth))


def _logits(case: Case) -> dict[str, Tensor]:
    named = {} if case.reference is None else {"reference": case.reference_logits}
    return named | {"suspect": case.suspect_logits}


def _classes(case: Case) -> int:
    return case.suspect_logits.shape[1]


def _accuracy(logits: Tensor, case: Case) -> float | None:
    """On the labels; without labels, the suspect's agreement with the reference, and None for the reference."""
    if case.labels is None and (case.reference is None or logits is case.reference_logits):
        return None
    return float((logits.argmax(1) == case.truth).float().mean())


def _explained(name: str, model: nn.Module, case: Case) -> Iterator[str]:
    """The mistake without which the model would be much more accurate, in words."""
    logits = _logits(case)[name]
    order = other_order(logits.argmax(1), case.truth, _names(case))
    if order is not None:
        yield f"The {name} {order}"
    chosen = torch.randperm(len(case.truth), generator=generator(0, "mistakes"))[:_MOST_TRIED]
    truth = case.truth[chosen.to(case.truth.device)]
    right = logits.argmax(1)[chosen.to(logits.device)] == truth
    if not rules.may_be_explained(right):
        return
    best: tuple[float, _Variant] | None = None
    for variant in _variants(case.pixels[chosen.to(case.pixels.device)]):
        right_then = _right_if_promising(model, variant.pixels, truth, right)
        if right_then is None or not rules.explains(right, right_then):
            continue
        accuracy = float(right_then.float().mean())
        if best is None or accuracy > best[0]:
            best = accuracy, variant
    if best is not None:
        yield (
            f"The {name} gets {float(right.float().mean()):.0%} of the images right, and {best[0]:.0%} of them "
            f"{best[1].what}. {best[1].advice}"
        )


@torch.no_grad()
def _right_if_promising(model: nn.Module, pixels: Tensor, truth: Tensor, right: Tensor) -> Tensor | None:
    """Which images the model gets right, bool (N,); None as soon as it isn't promising, or if the model refuses them.

    Args:
        model: in eval mode. pixels: (N, C, H, W). truth: int64 (N,).
        right: which images it gets right as they are.
    """
    then = right[:0]
    for batch, labels in zip(pixels.split(_BATCH), truth.split(_BATCH), strict=True):
        try:
            predicted = model(batch.clone()).argmax(1)
        except Exception:  # a model may refuse pixels outside [0, 1]
            return None
        then = torch.cat([then, (predicted == labels).to(right.device)])
        if not rules.may_still_explain(right[: len(then)], then):
            return None
    return then


def _variants(pixels: Tensor) -> Iterator[_Variant]:
    """What else the pixels may have to be, float (N, C, H, W)."""
    channels = pixels.shape[1]
    statistics = [(pixels.mean((0, 2, 3)), pixels.std((0, 2, 3)).clamp_min(1e-3))]
    statistics.append((pixels.new_full((channels,), 0.5), pixels.new_full((channels,), 0.5)))
    if channels == 3:
        statistics.append((pixels.new_tensor(_IMAGENET[0]), pixels.new_tensor(_IMAGENET[1])))
    for mean, std in statistics:
        by, shift, scale = _said(mean, std), mean.view(1, -1, 1, 1), std.view(1, -1, 1, 1)
        yield _Variant(
            (pixels - shift) / scale,
            f"if they are normalised by {by}",
            f"Scan again with the mean and the standard deviation of the training (such as {by}).",
        )
        if channels == 3:
            yield _Variant(
                ((pixels - shift) / scale).flip(1),
                f"if they are normalised by {by} and red and blue are swapped",
                "The network seems to expect BGR, normalised. Scan with a network that swaps the channels itself, "
                f"images.flip(1), and with the mean and the standard deviation of the training (such as {by}).",
            )
        yield _Variant(
            pixels * scale + shift,
            f"if a normalisation by {by} is undone",
            "It seems to be applied twice: once in the network and once outside. Scan again without one of them.",
        )
    yield _Variant(
        pixels * 255,
        "if their values are multiplied by 255",
        "The network seems to expect pixels from 0 to 255, or the images were divided by 255 twice. Scan again with "
        "--mean 0 --std 0.0039216, or a network that multiplies by 255 itself.",
    )
    yield _Variant(
        pixels / 255,
        "if their values are divided by 255",
        "The network seems to multiply pixels by 255, or to be normalised for pixels from 0 to 255. Scan again with a "
        "network for pixels from 0 to 1, and with --mean and --std in their units.",
    )
    yield _Variant(
        1 - pixels,
        "if their colours are inverted",
        "The network was trained on dark figures where these are light, or the other way round. Scan with images "
        "like those of the training.",
    )
    if channels == 3:
        yield _Variant(
            pixels.flip(1),
            "if red and blue are swapped",
            "The network seems to expect BGR, and images are RGB here. Scan with a network that swaps the channels "
            "itself: images.flip(1).",
        )


def _said(mean: Tensor, std: Tensor) -> str:
    said = (",".join(f"{value:.4g}" for value in values.tolist()) for values in (mean, std))
    return "--mean {} --std {}".format(*said)


def _names(case: Case) -> tuple[str, ...]:
    return tuple(case.class_name(index) for index in range(_classes(case)))


def _measure(name: str, value: float, case: Case) -> Measure:
    limit = rules.fair_accuracy(_classes(case)) if case.expected_accuracy is None else case.expected_accuracy
    return Measure(
        key=f"{name}_accuracy",
        name=f"Accuracy of the {name}",
        value=value,
        limit=limit,
        suspicious_when="below",
        scale="fraction",
        explanation=f"Fraction of the clean images that the {name} gets right."
        if case.labels is not None
        else "Fraction of the clean images on which suspect and reference agree.",
        reading="Below what is expected." if value < limit else "As expected.",
        tone="unsure" if value < limit else "innocent",
    )
