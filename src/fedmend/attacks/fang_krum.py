"""Fang's untargeted attack on Krum: as far against the honest direction as Krum still selects."""

from __future__ import annotations

import torch
from torch import Tensor

from fedmend.attacks.collusion import CollusionContext
from fedmend.checked_settings import Flag, settings

_SMALLEST = 1e-5


@settings
class FangKrum:
    """Send ``-step * sign(mean honest update)``, with the largest step for which Krum selects it.

    Fang et al., "Local Model Poisoning Attacks to Byzantine-Robust Federated Learning" (2020), section 4.2: the step
    starts at a bound and is halved until Krum selects the crafted update or the step is below 1e-5. All attackers send
    the same. Deviation: the bound is the largest distance between known updates over the root of the number of
    parameters, not the paper's Theorem 1, which it exceeds.

    Attributes:
        omniscient: know the honest clients' updates (the paper's full knowledge); otherwise only the attackers' own,
            trained honestly, stand for them.
    """

    omniscient: Flag = True

    untargeted = True

    def __call__(self, own: Tensor, context: CollusionContext) -> Tensor:
        """See :class:`fedmend.attacks.Collusion`."""
        mask = context.parameters
        known = context.known[:, mask].double()
        against = -known.mean(0).sign()
        spread = torch.cdist(known, known).max() + known.norm(dim=1).max()
        step = float(spread) / max(1, len(against)) ** 0.5
        while step > _SMALLEST and not krum_selects(step * against, known, len(own)):
            step /= 2
        crafted = own.clone()
        crafted[:, mask] = (step * against).to(own)
        return crafted


def krum_selects(crafted: Tensor, known: Tensor, attackers: int) -> bool:
    """Whether Krum takes one of so many copies of ``crafted``, (P,), rather than a known update (k, P)."""
    everyone = torch.cat([crafted.expand(attackers, -1), known])
    distances = torch.cdist(everyone, everyone).square().fill_diagonal_(torch.inf).sort(dim=1).values
    nearest = max(1, len(everyone) - attackers - 2)
    return bool(distances[:, :nearest].sum(1).argmin() < attackers)
