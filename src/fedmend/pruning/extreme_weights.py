"""Adjusting extreme weights (federated-pruning paper, 4.3 and 5.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from fedmend.errors import ConfigError
from fedmend.pruning.mask import Zeros, set_to_zero

DELTAS = tuple(5 - 0.25 * index for index in range(19))
"""From 5 down to 0.5: where to look for a delta."""


def extreme_weights(weights: Tensor, delta: float, *, live_only: bool = True) -> Tensor:
    """Which weights lie beyond ``mu - delta * sigma`` or ``mu + delta * sigma``.

    Args:
        weights: of one layer, any shape.
        delta: above 0; the paper's is 3.
        live_only: take mean and standard deviation over the weights that aren't zero, so that those of pruned
            channels don't narrow the range. The paper says "all the weights".

    Returns:
        bool, of the same shape.

    Raises:
        ConfigError: delta isn't above 0.
    """
    if not delta > 0:
        raise ConfigError(f"delta must be above 0; got {delta}")
    counted = weights[weights != 0] if live_only else weights.flatten()
    if len(counted) < 2:
        return torch.zeros_like(weights, dtype=torch.bool)
    return (weights - counted.mean()).abs() > delta * counted.std(correction=0)


def choose_delta(
    model: nn.Module,
    layer: str,
    accuracy_of: Callable[[nn.Module], float],
    *,
    deltas: Sequence[float] = DELTAS,
    max_drop: float = 0.01,
    live_only: bool = True,
) -> float:
    """The lowest delta, walking down, before the accuracy has dropped by more than ``max_drop`` (after 5.3).

    The drop is from the model without any adjustment; infinity, which adjusts nothing, is the answer where even the
    largest delta drops too far. The paper stops where the accuracy "begins to decrease".

    Args:
        model: left as found.
        accuracy_of: the clean accuracy of a model, on validation images or as clients report it.
    """
    allowed = accuracy_of(model) - max_drop
    chosen = float("inf")
    for delta in sorted(deltas, reverse=True):
        if accuracy_of(adjusted(model, layer, delta, live_only=live_only)[0]) < allowed - 1e-9:
            break
        chosen = delta
    return chosen


def adjusted(
    model: nn.Module, layer: str, delta: float, *, live_only: bool = True
) -> tuple[nn.Module, Zeros]:
    """A copy of the model with the extreme weights of a layer set to zero, and which these are."""
    copy = deepcopy(model)
    weight = copy.get_submodule(layer).get_parameter("weight")
    zeros = {f"{layer}.weight": extreme_weights(weight.detach(), delta, live_only=live_only)}
    set_to_zero(copy, zeros)
    return copy, zeros
