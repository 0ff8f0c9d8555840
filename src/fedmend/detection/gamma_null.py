"""How unusual the largest of several positive numbers is, if all of them come from one gamma distribution.

MM-BD's inference (Wang et al., Section III-C): the distribution is fitted to all numbers but the largest. Its p-value
is the probability that the largest of as many numbers is at least as large.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fedmend.seeds import generator

_NEWTON_STEPS = 20
_DRAWS = 4000


def fitted(values: Tensor) -> tuple[Tensor, Tensor]:
    """The gamma distribution's maximum-likelihood shape and scale.

    Args:
        values: positive, float64 (..., N), N at least 2 and not all the same.

    Returns:
        Shape and scale, (...).
    """
    mean = values.mean(-1)
    spread = (mean.log() - values.log().mean(-1)).clamp_min(
        1e-12
    )  # log(shape) - digamma(shape) at the maximum
    shape = (3 - spread + ((spread - 3).square() + 24 * spread).sqrt()) / (12 * spread)
    for _ in range(_NEWTON_STEPS):
        slope = 1 / shape - torch.polygamma(1, shape)
        shape = (shape - (shape.log() - torch.digamma(shape) - spread) / slope).clamp_min(1e-6)
    return shape, mean / shape


def tail_of_largest(values: Tensor) -> Tensor:
    """The p-value of the largest of the numbers.

    Args:
        values: positive, float64 (..., N), N at least 3; the others must not all be the same.

    Returns:
        (...), in [0, 1].
    """
    ordered = values.sort(-1).values
    shape, scale = fitted(ordered[..., :-1])
    beyond = torch.special.gammaincc(shape, ordered[..., -1] / scale)
    return -torch.expm1(values.shape[-1] * torch.log1p(-beyond.clamp_max(1 - 1e-12)))


def calibrated_tail(values: Tensor, seed: int) -> float:
    """How often gamma numbers of which none is unusual have a p-value this small: the p-value of the p-value.

    The fit leaves out the largest number and, of few classes, rests on few numbers. So what it calls 5 % is more. Here
    the p-value is compared with those of drawn numbers (a parametric bootstrap, ours).

    Args:
        values: as in :func:`tail_of_largest`, (N,).
        seed: of the draws.

    Returns:
        In (0, 1], in steps of about 1 / 4000.
    """
    observed = float(tail_of_largest(values))
    shape = float(fitted(values)[0])
    drawn = gamma_numbers(shape, (_DRAWS, len(values)), generator(seed, "gamma"))
    return float(1 + (tail_of_largest(drawn) <= observed).sum()) / (1 + _DRAWS)


def gamma_numbers(shape: float, size: tuple[int, ...], rng: torch.Generator) -> Tensor:
    """Draws of a gamma distribution of scale 1, float64, by the method of Marsaglia and Tsang (2000).

    torch draws them without a generator.

    Args:
        shape: positive; below 1, a power of a uniform number corrects those of shape + 1.
        size: of the result.
        rng: on the CPU.
    """
    if shape < 1:
        power = torch.rand(size, generator=rng, dtype=torch.float64).clamp_min(1e-300).pow(1 / shape)
        return (gamma_numbers(shape + 1, size, rng) * power).clamp_min(1e-300)
    offset = shape - 1 / 3
    found = torch.full((math.prod(size),), torch.nan, dtype=torch.float64)
    while bool(found.isnan().any()):
        open_ = found.isnan().nonzero().flatten()
        normal = torch.randn(len(open_), generator=rng, dtype=torch.float64)
        cubed = (1 + normal / math.sqrt(9 * offset)).pow(3)
        uniform = torch.rand(len(open_), generator=rng, dtype=torch.float64)
        bound = normal.square() / 2 + offset - offset * cubed + offset * cubed.clamp_min(1e-300).log()
        kept = (cubed > 0) & (uniform.log() < bound)
        found[open_[kept]] = offset * cubed[kept]
    return found.reshape(size)
