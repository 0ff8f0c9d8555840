"""Averages of a model's weights, back in the model's own types."""

from __future__ import annotations

import torch
from torch import Tensor


def in_model_type(name: str, value: Tensor, dtype: torch.dtype) -> Tensor:
    """One entry of a ``state_dict`` that a server averaged.

    Averages turn BatchNorm's counter into a float, which is rounded; and an adaptive server optimiser may turn its
    running variance negative, which becomes 0. NaN and infinite values of an integer entry stay floats, which the guard
    refuses.

    Args:
        name: the entry's. value: of any numeric type. dtype: the model's own.
    """
    if dtype.is_floating_point:
        floats = value.to(dtype)
        return floats.clamp(min=0) if name.endswith("running_var") else floats
    if value.is_floating_point() and not bool(value.isfinite().all()):
        return value
    return (value.round() if value.is_floating_point() else value).to(dtype)
