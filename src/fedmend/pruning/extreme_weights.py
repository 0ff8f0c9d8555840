"""Adjusts extreme weights: sets a layer's outliers to zero (federated-pruning paper, 4.3 and 5.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from fedmend.errors import ConfigError
from fedmend.pruning.pruning_mask import PruningMask, set_to_zero

DELTAS = tuple(5 - 0.25 * index for index in range(19))
"""The candidates for delta, from 5 down to 0.5."""


def is_extreme(weights: Tensor, delta: float, *, live_only: bool = True) -> Tensor:
    """Which weights lie below ``mu - delta * sigma`` or above ``mu + delta * sigma``.

    Args:
        weights: of one layer, any shape.
        delta: above 0; the paper's is 3.
        live_only: compute mean and standard deviation over the nonzero weights, so that pruned channels don't narrow
            the range. The paper says "all the weights".

    Returns:
        bool, of the same shape.

    Raises:
        ConfigError: delta is not above 0.
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
    """The last delta, in descending order, before the accuracy drops by more than ``max_drop`` (after 5.3).

    The drop is measured from the unadjusted model. The paper stops where the accuracy "begins to decrease".

    Args:
        model: left as found.
        accuracy_of: clean accuracy of a model, on validation images or as clients report it.

    Returns:
        A delta; infinity, which adjusts nothing, if even the largest costs too much.
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
) -> tuple[nn.Module, PruningMask]:
    """A copy of the model with a layer's extreme weights set to zero, and their mask."""
    copy = deepcopy(model)
    weight = copy.get_submodule(layer).get_parameter("weight")
    mask = {f"{layer}.weight": is_extreme(weight.detach(), delta, live_only=live_only)}
    set_to_zero(copy, mask)
    return copy, mask
