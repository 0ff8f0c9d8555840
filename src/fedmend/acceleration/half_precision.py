"""Models in bfloat16, for CPUs with instructions for it."""

from __future__ import annotations

from copy import deepcopy
from functools import cache

import torch
from torch import Tensor, nn

from fedmend.acceleration.packing import packable, packs

_FEW_WEIGHTS = 250_000


@cache
def multiplies_bfloat16() -> bool:
    """Whether the CPU has bfloat16 instructions (AVX-512 BF16 or AMX); without them it is slower than float32."""
    able: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # missing in older torch
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def could_be_halved(model: nn.Module) -> bool:
    """Whether the model has large convolutions, all in float32, and the CPU multiplies bfloat16.

    Small ones, such as the ConvNet's with 101,340 weights, spend little time on multiplying.
    """
    single = all(each.dtype == torch.float32 for each in model.parameters())
    weights = sum(module.weight.numel() for module in packable(model).values())
    return single and weights >= _FEW_WEIGHTS and multiplies_bfloat16()


def gains_by_halving(model: nn.Module) -> bool:
    """Whether the model can be halved, with its convolutions packed in bfloat16."""
    return could_be_halved(model) and packs(torch.bfloat16)


def halved(model: nn.Module) -> nn.Module:
    """A copy in bfloat16, for images in bfloat16; integer buffers stay.

    Args:
        model: in eval mode, with frozen weights.

    Raises:
        Exception: of any type, if the model can't be copied.
    """
    halves: dict[int, object] = {id(each): _half(each) for each in (*model.parameters(), *model.buffers())}
    return deepcopy(model, halves)


def _half(weights: Tensor) -> Tensor:
    half = weights.detach().to(torch.bfloat16) if weights.is_floating_point() else weights
    return nn.Parameter(half, requires_grad=False) if isinstance(weights, nn.Parameter) else half


class InHalfPrecision(nn.Module):
    """A model that runs in bfloat16, or in float32 where bfloat16 gives NaN or infinity.

    Args:
        model: float32 (N, C, H, W) to logits (N, classes).
        half: its copy in bfloat16.
    """

    def __init__(self, model: nn.Module, half: nn.Module) -> None:
        super().__init__()
        self.model, self.low = model, half

    def forward(self, images: Tensor) -> Tensor:
        """Images to logits, both float32."""
        logits: Tensor = self.low(images.to(torch.bfloat16)).float()
        return logits if bool(logits.isfinite().all()) else self.model(images)
