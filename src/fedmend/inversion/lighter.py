"""A model that gives the same answers in less time: what a search of hundreds of passes asks instead."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedmend.inversion.features import FeatureMap
from fedmend.inversion.folding import folded
from fedmend.inversion.packing import packed

_CHECKED_IMAGES = 8
_TOLERANCE = 1e-3


@torch.no_grad()
def lighter(model: nn.Module, images: Tensor) -> nn.Module:
    """The model with BatchNorm folded and convolutions packed, as far as that gives the same answers.

    Args:
        model: (N, C, H, W) to logits, in eval mode, with frozen weights. Left as it is.
        images: float (N, C, H, W); the first eight are asked.
    """
    some = images[:_CHECKED_IMAGES]
    before = FeatureMap(model)(some)[1]
    for change in (
        folded,
        lambda model: packed(model, torch.channels_last, join=True),
        lambda model: packed(model, torch.channels_last),
        lambda model: packed(model, torch.contiguous_format),
    ):
        try:
            candidate = change(model)
            after = before if candidate is model else FeatureMap(candidate)(some)[1]
        except Exception:  # from the model's own code, on stand-ins or in another layout
            continue
        if bool((after - before).abs().max() <= _TOLERANCE * before.abs().max().clamp_min(1)):
            model = candidate
    return model
