"""What one image costs in a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from fedmend.errors import ModelError
from fedmend.user_code import failures_as


def multiply_adds(model: nn.Module, image: Tensor) -> int:
    """Multiply-adds of the convolutions and matrix products for one image.

    Args:
        model: in eval mode.
        image: (C, H, W), of the model's dtype and on its device.

    Raises:
        ModelError: the model fails on a single image.
    """
    # With a gradient, or torch's transformers take a fused path that can't be counted.
    failed = f"the model failed on images of shape (N, C, H, W) = {(1, *image.shape)}"
    counter = _Counter()  # type: ignore[no-untyped-call]
    with failures_as(ModelError, failed), torch.enable_grad(), counter:
        model(image[None].detach().requires_grad_().clone())  # a copy, which a model may work on in place
    return counter.flops // 2


class _Counter(TorchDispatchMode):
    """Counts as torch's ``FlopCounterMode`` does, which imports torch's compiler: seconds at the start of a scan."""

    flops: int = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """torch imports its compiler to skip the method below."""
        return False

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        from torch.utils.flop_counter import flop_registry

        named = kwargs or {}
        with self:
            result = func.decompose(*args, **named)
        if result is NotImplemented:
            result = func(*args, **named)
            formula = flop_registry.get(func._overloadpacket)
            self.flops += 0 if formula is None else formula(*args, **named, out_val=result)
        return result
