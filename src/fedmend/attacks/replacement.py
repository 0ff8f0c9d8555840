"""Model replacement: an attacker amplifies its update so that it survives averaging."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor

from fedmend.attacks.updates import UpdateContext
from fedmend.checked_settings import settings


@settings
class Amplify:
    """Multiply the update: ``x = factor * (x_atk - w_t) + w_t`` (federated-pruning paper, appendix A).

    Buffers such as BatchNorm's statistics are not amplified: a variance could become negative, which breaks the model.

    Attributes:
        factor: the paper's alpha, from 1 (no amplification) to the number of clients.

    Raises:
        ConfigError: the factor is below 1.
    """

    factor: Annotated[float, Field(ge=1, strict=True, allow_inf_nan=False)]

    def __call__(self, delta: Tensor, context: UpdateContext) -> Tensor:
        """See :class:`UpdateStep`."""
        return delta.where(~context.parameters, delta * self.factor)
