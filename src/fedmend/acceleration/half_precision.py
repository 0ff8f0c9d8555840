"""Models in half precision, for a processor that multiplies bfloat16 itself, at twice the speed or more."""

from __future__ import annotations

from copy import deepcopy
from functools import cache

import torch
from torch import Tensor, nn

from fedmend.acceleration.packing import can_be_packed, packs

_FEW_WEIGHTS = 250_000


@cache
def multiplies_bfloat16() -> bool:
    """Whether the CPU does; one that doesn't, goes by way of single precision and takes longer."""
    able: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # an older torch can't tell
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def gains_by_halving(model: nn.Module) -> bool:
    """Whether it has large convolutions and all of it is in single precision, on a CPU that multiplies bfloat16.

    Small ones, such as the ConvNet's with 101,340 weights, aren't bound by their multiplications.
    """
    single = all(each.dtype == torch.float32 for each in model.parameters())
    convolutions = [module for module in model.modules() if can_be_packed(module)]
    weights = sum(module.weight.numel() for module in convolutions if isinstance(module, nn.Conv2d))
    return single and weights >= _FEW_WEIGHTS and multiplies_bfloat16() and packs(torch.bfloat16)


def halved(model: nn.Module) -> nn.Module:
    """A copy whose parameters and buffers are bfloat16, as its images must be.

    Args:
        model: in eval mode, with frozen weights.

    Raises:
        Exception: of any kind: the model can't be copied.
    """
    halves: dict[int, object] = {id(each): _half(each) for each in (*model.parameters(), *model.buffers())}
    return deepcopy(model, halves)


def _half(weights: Tensor) -> Tensor:
    half = weights.detach().to(torch.bfloat16) if weights.is_floating_point() else weights
    return nn.Parameter(half, requires_grad=False) if isinstance(weights, nn.Parameter) else half


class InHalfPrecision(nn.Module):
    """A model that answers by its copy in bfloat16; where that gives NaN or infinity, by itself.

    Args:
        model: float32 (N, C, H, W) to logits (N, classes).
        half: the same with bfloat16.
    """

    def __init__(self, model: nn.Module, half: nn.Module) -> None:
        super().__init__()
        self.model, self.low = model, half

    def forward(self, images: Tensor) -> Tensor:
        """Images to logits, both float32."""
        logits: Tensor = self.low(images.to(torch.bfloat16)).float()
        return logits if bool(logits.isfinite().all()) else self.model(images)
