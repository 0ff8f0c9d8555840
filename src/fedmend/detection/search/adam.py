"""Adam's step, written out: ``torch.optim`` imports torch's compiler, which takes seconds."""

from __future__ import annotations

import torch
from torch import Tensor

_BETAS, _EPSILON = (0.5, 0.9), 1e-8


class Adam:
    """Adam with bias correction and the betas 0.5 and 0.9, which suit searches of a few dozen steps.

    Args:
        values: changed in place by :meth:`step`.
    """

    def __init__(self, values: Tensor) -> None:
        self._values = values
        self._moments = torch.zeros_like(values), torch.zeros_like(values)
        self._steps = 0

    @torch.no_grad()
    def step(self, gradient: Tensor, lr: float) -> None:
        """Move the values against their gradient, of the same shape; ``lr`` is the learning rate."""
        self._steps += 1
        first, second = self._moments
        first_bias, second_bias = (1 - beta**self._steps for beta in _BETAS)
        first.lerp_(gradient, 1 - _BETAS[0])
        second.lerp_(gradient.square(), 1 - _BETAS[1])
        step = (second / second_bias).sqrt_().add_(_EPSILON)
        self._values.addcdiv_(first, step, value=-lr / first_bias)

    def keep(self, values: Tensor, chosen: Tensor) -> None:
        """Go on with the values of some rows, bool (S,), and their moments."""
        first, second = self._moments
        self._values, self._moments = values, (first[chosen], second[chosen])
