"""The entry point: makes a model faster, and verifies on images that its logits stay the same."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from fedmend.acceleration.folding import folded
from fedmend.acceleration.half_precision import InHalfPrecision, could_be_halved, gains_by_halving, halved
from fedmend.acceleration.joining import joined
from fedmend.acceleration.packing import packable, packed, packs
from fedmend.errors import ConfigError
from fedmend.seeds import generator

SWITCH = "FEDMEND_ACCELERATION"
"""The environment variable that switches acceleration off: "off" leaves every model as it is."""

_SWITCHED = {"": True, "on": True, "1": True, "true": True, "off": False, "0": False, "false": False}

_CHECKED_IMAGES = 8
_TOLERANCE = 1e-3
_HALF_TOLERANCE, _HALF_DIRECTION = 0.05, 0.9
_UNPACKED, _UNHALVED = 1.2, 1.6  # measured: benchmarks/acceleration

_Change: TypeAlias = Callable[[nn.Module], nn.Module]
_Check: TypeAlias = Callable[[nn.Module], bool]


@dataclass(frozen=True, eq=False)
class Accelerated:
    """What :func:`accelerate` returns.

    Attributes:
        model: pixels (N, C, H, W) to logits (N, classes), with the original model's dtypes.
        notes: short notes for the report: what was done, and where speed was lost.
    """

    model: nn.Module
    notes: tuple[str, ...]

    @property
    def exact(self) -> nn.Module:
        """The model in the original's precision: ``model`` unless that runs in bfloat16."""
        return self.model.model if isinstance(self.model, InHalfPrecision) else self.model


@torch.no_grad()
def accelerate(model: nn.Module, images: Tensor, *, half: bool = False) -> Accelerated:
    """Make a model faster.

    BatchNorm is folded, convolutions are packed and, if allowed, weights become bfloat16. A step is kept only if the
    logits on the images change by at most 0.1 % of the largest one, minus its image's mean, or in bfloat16 by at most
    5 %, with gradients at the pixels in nearly the same direction.

    Args:
        model: (N, C, H, W) to logits (N, classes), in eval mode, with frozen weights. Left as found.
        images: float (N, C, H, W) in [0, 1]; the first eight are used.
        half: allow bfloat16, for models and CPUs that gain by it.

    Raises:
        ConfigError: ``FEDMEND_ACCELERATION`` is neither on nor off.
    """
    if not switched_on():
        return Accelerated(model, (f"acceleration switched off ({SWITCH}=off)",))
    some = images[:_CHECKED_IMAGES]
    before = model(some.clone())
    spread = (before - before.mean(1, keepdim=True)).abs().max().clamp_min(1)

    def same_logits(candidate: nn.Module) -> bool:
        after = candidate(some.clone())
        return bool((after - before).abs().max() <= _TOLERANCE * spread)

    notes = []
    single = _changed(model, folded, same_logits)
    if single is not model:
        notes.append("BatchNorm folded into the convolutions before it")
    low, check = single, same_logits
    if half and gains_by_halving(single):
        in_half = _SameInHalf(single, some)
        low = _changed(single, halved, in_half)
        if low is not single:
            check = in_half
            notes.append("searched in bfloat16; evidence in float32")
    fast = _packed(low, check)
    notes += _about_packing(low, fast, half)
    return Accelerated(fast if low is single else InHalfPrecision(single, fast), tuple(notes))


def switched_on() -> bool:
    """Whether the environment allows acceleration: on, 1 or true, off, 0 or false, in any case; unset, it does.

    Raises:
        ConfigError: the variable holds something else.
    """
    word = os.environ.get(SWITCH, "")
    try:
        return _SWITCHED[word.strip().lower()]
    except KeyError:
        raise ConfigError(f"{SWITCH}: expected on or off (1 or 0, true or false); got {word!r}") from None


def _about_packing(before: nn.Module, after: nn.Module, half: bool) -> list[str]:
    """Notes on a model's convolutions; none if it has none on a CPU."""
    convolutions = packable(before).values()
    if after is not before:
        notes = ["convolutions with weights pre-packed for oneDNN"]
    elif not convolutions:
        return []
    elif not torch.backends.mkldnn.is_available():
        notes = ["this torch has no oneDNN: convolutions run unpacked"]
    elif all(packs(module.weight.dtype) for module in convolutions):
        notes = [
            "convolutions run unpacked: the model can't be copied, or predicts differently when they are packed"
        ]
    else:
        notes = [
            f"this torch's private oneDNN operators differ (torch {torch.__version__}): convolutions run unpacked, "
            f"scans take up to {_UNPACKED} times as long"
        ]
    if half and could_be_halved(before) and not packs(torch.bfloat16):
        notes.append(
            f"this torch's private oneDNN operators differ in bfloat16 (torch {torch.__version__}): searched in "
            f"float32, scans take up to {_UNHALVED} times as long"
        )
    return notes


class _SameInHalf:
    """Whether a candidate in bfloat16 has nearly the same logits and gradients as the model.

    Both run on half of the images, clean and averaged with noise, as at the start of a search. The comparison uses the
    logits, minus each image's mean, and the direction of their gradient.
    """

    def __init__(self, model: nn.Module, images: Tensor) -> None:
        clean = images[: len(images) // 2]
        noise = torch.rand(clean.shape, generator=generator(0, "half precision")).to(clean)
        self.images = torch.cat([clean, (clean + noise) / 2])
        self.logits, self.gradient = self._run(model)

    def __call__(self, candidate: nn.Module) -> bool:
        logits, gradient = self._run(lambda images: candidate(images.to(torch.bfloat16)).float())
        near = (logits - self.logits).abs().max() <= _HALF_TOLERANCE * self.logits.abs().max()
        direction = cosine_similarity(gradient.flatten(), self.gradient.flatten(), dim=0)
        return bool(near) and float(direction) >= _HALF_DIRECTION

    def _run(self, predict: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        images = self.images.clone().requires_grad_()
        with torch.enable_grad():
            logits = predict(images.clone())  # a model may work in place
            (gradient,) = torch.autograd.grad(logits.logsumexp(1).sum(), images)
        return logits.detach() - logits.detach().mean(1, keepdim=True), gradient


def _packed(model: nn.Module, check: _Check) -> nn.Module:
    """The model, packed in the fastest way that passes the check."""
    changes: list[_Change] = [
        lambda model: joined(packed(model, torch.channels_last)),
        lambda model: packed(model, torch.channels_last),
        lambda model: packed(model, torch.contiguous_format),
    ]
    for change in changes:
        model = _changed(model, change, check)
    return model


def _changed(model: nn.Module, change: _Change, check: _Check) -> nn.Module:
    """The changed model if it passes the check, otherwise the model."""
    try:
        with redirect_stderr(StringIO()):  # torch.fx prints every exception
            candidate = change(model)
            return candidate if candidate is model or check(candidate) else model
    except Exception:  # from the model's own code, when traced, in another layout or in bfloat16
        return model
