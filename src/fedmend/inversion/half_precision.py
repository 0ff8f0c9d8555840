"""Models in half precision, for a processor that multiplies bfloat16 itself, at twice the speed or more."""

from __future__ import annotations

from copy import deepcopy
from functools import cache

import torch
from torch import Tensor, nn

_FEW_WEIGHTS = 250_000


@cache
def multiplies_bfloat16() -> bool:
    """Whether the CPU does; one that doesn't, goes by way of single precision and takes longer."""
    able: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # torch's before 2.9 can't tell
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def gains_by_halving(model: nn.Module) -> bool:
    """Whether its convolutions aren't small and all of it is in single precision, on a CPU that multiplies bfloat16.

    Small ones, such as the ConvNet's with 101,340 weights, aren't bound by their multiplications.
    """
    parameters = list(model.parameters())
    single = all((each.device.type, each.dtype) == ("cpu", torch.float32) for each in parameters)
    weights = sum(each.numel() for each in parameters if each.ndim == 4)
    return single and weights >= _FEW_WEIGHTS and multiplies_bfloat16()


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
    """A model of bfloat16 as one of float32.

    Args:
        model: bfloat16 (N, C, H, W) to logits (N, classes).
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Images to logits, both float32."""
        logits: Tensor = self.model(images.to(torch.bfloat16)).float()
        return logits
