"""Normalisation as a model's first layer, so that everything outside a model works on pixels in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fedmend.errors import ModelError

KNOWN_NORMALIZATIONS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "mnist": ((0.1307,), (0.3081,)),
}
"""Mean and standard deviation per channel of well-known data sets' training images."""


class Normalize(nn.Module):
    """``(x - mean) / std``, per channel.

    Mean and deviation are constants of the architecture: they have no gradient and aren't in the
    ``state_dict``, so they are neither averaged by a federation nor read from a model file.

    Args:
        mean: one number for all channels, or one per channel; in units of pixels in [0, 1].
        std: likewise, positive.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: float | Sequence[float] = 0.5, std: float | Sequence[float] = 0.5) -> None:
        super().__init__()
        self.register_buffer("mean", _column(mean), persistent=False)
        self.register_buffer("std", _column(std), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Float (N, C, H, W) in [0, 1] to the same shape; with the defaults, in [-1, 1]."""
        return (images - self.mean) / self.std

    def extra_repr(self) -> str:
        """The constants, for ``print(model)``."""
        return f"mean={self.mean.flatten().tolist()}, std={self.std.flatten().tolist()}"


def normalized(
    model: nn.Module, mean: float | Sequence[float], std: float | Sequence[float], in_channels: int
) -> nn.Module:
    """Let a model that expects normalised images take pixels in [0, 1], in place; weights and their names stay.

    Args:
        model: takes ``(x - mean) / std``.
        mean, std: one number, or one per channel, in units of pixels in [0, 1]; ``std`` positive.
        in_channels: channels of the images.

    Raises:
        ModelError: the numbers are out of range or too many, or the model is TorchScript, which takes no hook.
    """
    normalize = Normalize(mean, std)
    for name, values in (("mean", normalize.mean), ("std", normalize.std)):
        if values.numel() not in (1, in_channels):
            raise ModelError(
                f"{name}: expected 1 number or {in_channels}, one per channel of the images; got {values.numel()}"
            )
    if not bool(((normalize.mean >= 0) & (normalize.mean <= 1)).all()):
        raise ModelError(
            f"mean: expected numbers in [0, 1], as pixels are; got {_listed(normalize.mean)}{_DIVIDE}"
        )
    if not bool(((normalize.std > 0) & (normalize.std <= 1)).all()):
        raise ModelError(f"std: expected numbers above 0, at most 1; got {_listed(normalize.std)}{_DIVIDE}")
    try:
        model.register_forward_pre_hook(_Normalizing(normalize.mean, normalize.std))
    except RuntimeError as error:
        raise ModelError(
            f"a {type(model).__name__} is TorchScript and must normalise its input itself; name a factory of the "
            "network before scripting"
        ) from error
    return model


_DIVIDE = "; divide values for pixels in 0 to 255 by 255"


class _Normalizing:
    """A forward hook that normalises a model's input."""

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        self.mean, self.std = mean, std

    def __call__(self, model: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        """See :meth:`torch.nn.Module.register_forward_pre_hook`."""
        return (inputs[0] - self.mean.to(inputs[0])) / self.std.to(inputs[0])


def _listed(values: Tensor) -> str:
    return ", ".join(f"{value:g}" for value in values.flatten().tolist())


def _column(values: float | Sequence[float]) -> Tensor:
    return torch.tensor([values] if isinstance(values, int | float) else list(values)).float().view(-1, 1, 1)
