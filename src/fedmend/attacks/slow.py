"""A slow attack: each update stays as large as an honest one and almost as honest in direction, round after round."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor, nn

from fedmend.attacks.methods import AttackData, set_weights
from fedmend.checked_settings import Count, PositiveFraction, settings
from fedmend.local_training import LocalTraining
from fedmend.parameters import flatten, parameter_mask
from fedmend.seeds import derive_seed


@settings
class Slow:
    """Send the honest update turned towards the backdoor by at most an angle, at no more than the honest update's norm.

    Filters judge an update by its norm and direction. This one passes any limit on the norm that an honest update of
    the same client passes, and differs from it by a cosine of its choice; the backdoor builds up over the rounds. The
    attacker trains honestly first. From there it trains on poisoned images, and after each epoch it turns its update
    back to the permitted angle (projected gradient descent), so that what the angle leaves serves the backdoor.

    Attributes:
        cosine: the smallest cosine, in (0, 1], with the update of honest training on the same images.
        epochs: on poisoned images, each followed by a projection.
    """

    cosine: PositiveFraction = 0.9
    epochs: Count = 5

    def __call__(self, model: nn.Module, data: AttackData, training: LocalTraining, seed: int) -> None:
        """See :class:`fedmend.attacks.AttackMethod`."""
        before, mask = flatten(model.state_dict()), parameter_mask(model)
        honest = deepcopy(model)
        training(honest, data.images, data.truth, seed)
        after = flatten(honest.state_dict())
        set_weights(model, after)
        mask = mask.to(before.device)
        straight = (after - before)[mask]
        once = replace(training, epochs=1)
        for epoch in range(self.epochs):
            once(model, *data.mixed, derive_seed(seed, "slow", epoch))
            malicious = (flatten(model.state_dict()) - before)[mask]
            sent = after.clone()
            sent[mask] = before[mask] + turned(straight, malicious, self.cosine)
            set_weights(model, sent)


def turned(honest: Tensor, malicious: Tensor, cosine: float) -> Tensor:
    """``honest`` turned towards ``malicious`` as far as the cosine allows, with the honest norm; vectors (P,).

    A malicious update within the angle is only scaled down to the honest norm.
    """
    size: Tensor = honest.norm()
    if float(size) == 0:
        return honest.clone()
    along = honest / size
    across = malicious - (malicious @ along) * along
    width: Tensor = across.norm()
    own = float((malicious @ along) / malicious.norm().clamp(min=1e-30))
    if own >= cosine:
        return malicious * torch.clamp(size / malicious.norm(), max=1)
    if float(width) == 0:
        return honest.clone()
    sideways: float = (1 - cosine**2) ** 0.5
    return size * (cosine * along + sideways * across / width)
