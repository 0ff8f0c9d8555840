"""Weights that clients sent and servers averaged, in the model's own types."""

from __future__ import annotations

import numpy as np
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
    value = in_type(value, dtype)
    return value.clamp(min=0) if dtype.is_floating_point and name.endswith("running_var") else value


def in_type(value: Tensor, dtype: torch.dtype) -> Tensor:
    """Numbers in another type, rounded where they were floats; NaN and infinite values stay floats."""
    if dtype.is_floating_point or not value.is_floating_point():
        return value.to(dtype)
    return value.round().to(dtype) if bool(value.isfinite().all()) else value


def in_torch(dtype: np.dtype) -> bool:
    """Whether torch has these numbers: integers, booleans and floats of at most 8 bytes, in the machine's order."""
    return dtype.kind in "biuf" and dtype.itemsize <= 8 and dtype.isnative
