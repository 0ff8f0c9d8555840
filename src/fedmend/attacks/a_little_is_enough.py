"""A little is enough: all attackers shift each coordinate by no more than honest clients differ."""

from __future__ import annotations

from statistics import NormalDist

from torch import Tensor

from fedmend.attacks.collusion import CollusionContext
from fedmend.checked_settings import Flag, Positive, settings

_MOST, _LEAST = 0.999, 0.5 + 1e-6


@settings
class ALittleIsEnough:
    """Send the mean of the known updates less z standard deviations, or a backdoor within that range.

    Baruch, Baruch and Goldberg, "A Little Is Enough: Circumventing Defenses For Distributed Learning" (2019), Algorithm
    3 and section 4.3. Of n clients m attack; s = floor(n / 2 + 1) - m honest ones must be won for a majority, and z is
    the largest for which the normal distribution has at most (n - m - s) / (n - m) below it. By default the attackers
    know only what they train themselves, as in the paper. Deviation: a backdoor is trained without the paper's penalty
    on the distance from the mean; only the clamp keeps it within range.

    Attributes:
        z: in standard deviations; None: as above, which is near 0 if few attack.
        backdoor: train on poisoned images and clamp each coordinate to the mean plus or minus z deviations.
        omniscient: know the honest clients' updates. With a backdoor, and with a single attacker, this is needed: the
            attackers' own updates then aren't honest, or have no deviation.
    """

    z: Positive | None = None
    backdoor: Flag = False
    omniscient: Flag = False

    @property
    def untargeted(self) -> bool:
        """See :class:`fedmend.attacks.Collusion`."""
        return not self.backdoor

    def __call__(self, own: Tensor, context: CollusionContext) -> Tensor:
        """See :class:`fedmend.attacks.Collusion`."""
        z = largest_shift(context.clients, len(own)) if self.z is None else self.z
        mean, deviation = context.known.mean(0), context.known.std(0, correction=0)
        if self.backdoor:
            return own.clamp(mean - z * deviation, mean + z * deviation)
        return (mean - z * deviation).expand_as(own).clone()


def largest_shift(clients: int, attackers: int) -> float:
    """The paper's z for so many attackers among so many clients: not negative, at most 3.1."""
    honest = clients - attackers
    won = clients // 2 + 1 - attackers
    fraction = (honest - won) / honest if honest else _MOST
    return NormalDist().inv_cdf(min(max(fraction, _LEAST), _MOST))
