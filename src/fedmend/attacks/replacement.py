"""Model replacement: an attacker amplifies its update so that it survives the averaging."""

from __future__ import annotations

from torch import Tensor

from fedmend.errors import ConfigError


def amplify(delta: Tensor, factor: float, parameters: Tensor) -> Tensor:
    """The attacker's amplified update (pruning paper, appendix A: ``x = factor * (x_atk - w_t) + w_t``).

    Args:
        delta: the attacker's own change of the model, ``x_atk - w_t``, (P,).
        factor: the paper's alpha, from 1 (no amplification) to the number of clients.
        parameters: bool (P,), False for BatchNorm's buffers, which stay as trained: an amplified variance
            could become negative, and the model would answer nothing at all.

    Raises:
        ConfigError: the factor is under 1.
    """
    if factor < 1:
        raise ConfigError(f"amplification must be at least 1 (no amplification); got {factor}")
    return delta.where(~parameters, delta * factor)
