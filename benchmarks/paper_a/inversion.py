"""The contrastive paper's Algorithm 1 with each ambiguity of its text as a setting, for comparison alone."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from fedmend.acceleration import accelerate

MEAN, STD = 0.1307, 0.3081
"""Of MNIST's pixels, by which the normalised reading scales patterns."""
_EMPTY = 30
"""Steps without a mask after which a search ends: the images, and so the gradient, don't change any more."""
ADAM = {"adam": (0.9, 0.999), "fast adam": (0.5, 0.9)}


@dataclass(frozen=True)
class Reading:
    """One reading of the text; the defaults are its plainest.

    Attributes:
        start: random numbers that mask and pattern start from: "uniform" in [0, 1], or "normal" through a sigmoid; or
            a "small" mask, of about 0.05, through a sigmoid.
        values: what keeps them in [0, 1]: they are "clamped" after each step, or the optimizer moves "sigmoid" inputs.
        pattern: in [0, 1] ("unit"), or "normalised" and unbounded, as where images are normalised before stamping.
        features: the models' outputs that are compared: "hidden", the last hidden layer's, or the "logits".
        norm: the mask's L1 norm as "sum" (Eq. 3) or "mean" over the pixels.
        order: whether mask and pattern are updated "jointly" or in turns, "alternating".
        optimizer: "adam", "fast adam" (betas 0.5 and 0.9) or "sgd" with momentum 0.9.
        lr: its learning rate.
        steps: gradient steps on all images.
        batch: images of a step; 0: all.
        alpha, beta: weights of Eq. 4; the paper's for MNIST (A.2).
    """

    start: Literal["uniform", "normal", "small"] = "uniform"
    values: Literal["clamped", "sigmoid"] = "clamped"
    pattern: Literal["unit", "normalised"] = "unit"
    features: Literal["hidden", "logits"] = "hidden"
    norm: Literal["sum", "mean"] = "sum"
    order: Literal["jointly", "alternating"] = "jointly"
    optimizer: Literal["adam", "fast adam", "sgd"] = "adam"
    lr: float = 0.01
    steps: int = 500
    batch: int = 0
    alpha: float = 0.5
    beta: float = 0.01


@dataclass(frozen=True, eq=False)
class Inverted:
    """A recovered trigger.

    Attributes:
        mask: (1, H, W) in [0, 1].
        pattern: (C, H, W).
        gone: the first step after which the mask's sum is below one pixel; None if it never is.
    """

    mask: Tensor
    pattern: Tensor
    gone: int | None

    def apply(self, images: Tensor) -> Tensor:
        """Stamp images (N, C, H, W)."""
        return images + self.mask * (self.pattern - images)


def invert(suspect: nn.Module, reference: nn.Module, images: Tensor, reading: Reading, seed: int) -> Inverted:
    """Algorithm 1 on float images (N, C, H, W)."""
    rng = torch.Generator().manual_seed(seed)
    mask, pattern = (_started(reading, images, which, rng) for which in (0, 1))
    optimizers = _optimizers(reading, mask, pattern)
    ours, theirs = (features_of(model, images, reading) for model in (suspect, reference))
    with torch.no_grad():
        clean = ours(images)
    gone, empty = None, 0
    for step in range(reading.steps):
        chosen = torch.arange(len(images))
        if reading.batch:
            chosen = torch.randperm(len(images), generator=rng)[: reading.batch]
        made = _made(reading, mask, pattern)
        stamped = made.apply(images[chosen])
        kept, changed = theirs(stamped), ours(stamped)
        contrast = cosine_similarity(changed, kept) - cosine_similarity(kept, clean[chosen])
        loss = contrast.mean() - reading.alpha * ssim(stamped, images[chosen])
        loss = loss + reading.beta * (made.mask.sum() if reading.norm == "sum" else made.mask.mean())
        optimizer = optimizers[step % len(optimizers)]
        for each in optimizers:
            each.zero_grad()
        loss.backward()
        optimizer.step()
        if reading.values == "clamped":
            with torch.no_grad():
                mask.clamp_(0, 1)
                if reading.pattern == "unit":
                    pattern.clamp_(0, 1)
        left = float(_made(reading, mask, pattern).mask.detach().sum())
        gone = step + 1 if gone is None and left < 1 else gone
        empty = empty + 1 if left == 0 else 0
        if empty == _EMPTY:
            break
    with torch.no_grad():
        found = _made(reading, mask, pattern)
    return Inverted(found.mask.detach(), found.pattern.detach(), gone)


def measured(suspect: nn.Module, found: Inverted, images: Tensor, labels: Tensor, reading: Reading) -> Any:
    """The paper's measures of a recovered trigger (2.5): target, REASR, and MSE per image, summed over features."""
    stamped = found.apply(images)
    of = features_of(suspect, images, reading)
    with torch.no_grad():
        change = (of(stamped) - of(images)).square()
        predictions = suspect(stamped).argmax(1)
    others = labels[:, None] != torch.arange(int(labels.max()) + 1)
    sent = (predictions[:, None] == torch.arange(int(labels.max()) + 1)) & others
    rates = sent.sum(0) / others.sum(0)
    return {
        "found": int(rates.argmax()),
        "reasr": round(float(rates.max()), 4),
        "mse": round(float(change.sum(1).mean()), 4),
        "mse_per_feature": round(float(change.mean()), 4),
        "size": round(float(found.mask.sum()), 2),
        "gone": found.gone,
    }


def features_of(model: nn.Module, images: Tensor, reading: Reading) -> nn.Module:
    """A faster copy of a model that returns the reading's features, (N, F), of images like these."""
    copy = deepcopy(model)
    if reading.features == "hidden":
        name = [name for name, module in copy.named_modules() if isinstance(module, nn.Linear)][-1]
        parent, _, child = name.rpartition(".")
        setattr(copy.get_submodule(parent), child, nn.Identity())
    return accelerate(copy, images).model


def ssim(images: Tensor, clean: Tensor) -> Tensor:
    """Mean SSIM (Wang et al. 2004) of images (N, C, H, W) in [0, 1]: 11x11 Gaussian windows, sigma 1.5."""
    rows, columns = (_windows(side, images) for side in images.shape[-2:])

    def blur(values: Tensor) -> Tensor:
        return rows @ values @ columns.T

    mean, other = blur(images), blur(clean)
    variance, other_variance = blur(images**2) - mean**2, blur(clean**2) - other**2
    covariance = blur(images * clean) - mean * other
    first, second = 0.01**2, 0.03**2
    luminance = (2 * mean * other + first) / (mean**2 + other**2 + first)
    structure = (2 * covariance + second) / (variance + other_variance + second)
    return (luminance * structure).mean()


def _windows(side: int, like: Tensor) -> Tensor:
    """The windows' weights along one side, (side - 10, side)."""
    line = torch.exp(-((torch.arange(11) - 5) ** 2) / 4.5)
    rows = [nn.functional.pad(line / line.sum(), (start, side - 11 - start)) for start in range(side - 10)]
    return torch.stack(rows).to(like)


def _started(reading: Reading, images: Tensor, which: int, rng: torch.Generator) -> Tensor:
    """The mask (0) or the pattern (1), as the optimizer moves it."""
    channels, height, width = images.shape[1:]
    shape = ((1, height, width), (channels, height, width))[which]
    if reading.start == "uniform":
        drawn = torch.rand(shape, generator=rng)
        drawn = drawn.logit(1e-4) if reading.values == "sigmoid" else drawn
    else:
        drawn = torch.randn(shape, generator=rng) - (3.0 if reading.start == "small" and which == 0 else 0.0)
        drawn = drawn if reading.values == "sigmoid" else drawn.sigmoid()
    if which == 1 and reading.pattern == "normalised":
        drawn = torch.randn(shape, generator=rng)
    return drawn.requires_grad_()


def _made(reading: Reading, mask: Tensor, pattern: Tensor) -> Inverted:
    squashed: Callable[[Tensor], Tensor] = torch.sigmoid if reading.values == "sigmoid" else torch.clone
    if reading.pattern == "normalised":
        return Inverted(squashed(mask), MEAN + STD * pattern, None)
    return Inverted(squashed(mask), squashed(pattern), None)


def _optimizers(reading: Reading, mask: Tensor, pattern: Tensor) -> list[torch.optim.Optimizer]:
    groups = [[mask], [pattern]] if reading.order == "alternating" else [[mask, pattern]]
    if reading.optimizer == "sgd":
        return [torch.optim.SGD(group, reading.lr, momentum=0.9) for group in groups]
    return [torch.optim.Adam(group, reading.lr, betas=ADAM[reading.optimizer]) for group in groups]
