"""Fang's untargeted attack on the trimmed mean and the median: just beyond the honest values, on the wrong side."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from fedmend.attacks.collusion import CollusionContext
from fedmend.checked_settings import Flag, settings
from fedmend.seeds import generator


@settings
class FangTrimmedMean:
    """In each coordinate send values beyond the honest models' largest or smallest, against the honest direction.

    Fang et al., "Local Model Poisoning Attacks to Byzantine-Robust Federated Learning" (2020), sections 4.3 and 4.4;
    the paper uses it against the trimmed mean and the median. With full knowledge, where honest clients lower a
    coordinate of the model, values are drawn between the largest honest one and ``reach`` times it (divided, if it is
    negative), so that the trimmed part hides among honest values; where they raise it, below the smallest. With partial
    knowledge they are drawn from 3 to 4 standard deviations from the mean.

    Attributes:
        reach: the paper's b, above 1.
        omniscient: know the honest clients' updates (full knowledge); otherwise only the attackers' own, trained
            honestly.
    """

    reach: Annotated[float, Field(gt=1, strict=True, allow_inf_nan=False)] = 2.0
    omniscient: Flag = True

    untargeted = True

    def __call__(self, own: Tensor, context: CollusionContext) -> Tensor:
        """See :class:`fedmend.attacks.Collusion`."""
        random = generator(context.seed, "fang")
        drawn = torch.rand(own.shape, generator=random).to(own)
        models = context.global_vector + context.known
        rising = context.known.mean(0) > 0
        if self.omniscient:
            edge = torch.where(rising, models.min(0).values, models.max(0).values)
            outward = (edge > 0) != rising
            beyond = torch.where(outward, edge * self.reach, edge / self.reach)
        else:
            mean, deviation = models.mean(0), models.std(0, correction=0)
            side = torch.where(rising, -1.0, 1.0)
            edge, beyond = mean + 3 * side * deviation, mean + 4 * side * deviation
        return edge + drawn * (beyond - edge) - context.global_vector
