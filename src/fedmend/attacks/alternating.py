"""Bhagoji's alternating minimisation: boost a malicious change, then hide it by honest training, again and again."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from fedmend.attacks.methods import AttackData, Penalty, length, scale_change
from fedmend.attacks.stealthy import honest_parameters
from fedmend.checked_settings import Count, NonNegative, settings
from fedmend.local_training import LocalTraining
from fedmend.parameters import flatten
from fedmend.seeds import derive_seed


@settings
class Alternating:
    """In each epoch: an epoch on poisoned images, whose change is boosted, then epochs for stealth on clean ones.

    Bhagoji et al., "Analyzing Federated Learning through an Adversarial Lens" (2019), section 4.2: because the
    malicious part is boosted before the stealth part starts, the two needn't be weighed against each other. Deviation:
    the honest change is what this attacker's own training makes, where the paper takes the last round's mean. Boosting
    the whole update, as in the paper's section 3, is the step ``amplify``.

    Attributes:
        boost: the paper's lambda, at least 1.
        distance: the paper's rho, the weight of the distance from an honest change.
        stealth_epochs: epochs on clean images for each on poisoned ones; the paper takes 10 steps for each.
    """

    boost: Annotated[float, Field(ge=1, strict=True, allow_inf_nan=False)] = 2.0
    distance: NonNegative = 0.01
    stealth_epochs: Count = 1

    def __call__(self, model: nn.Module, data: AttackData, training: LocalTraining, seed: int) -> None:
        """See :class:`fedmend.attacks.AttackMethod`."""
        honest = honest_parameters(model, data, training, seed)
        malicious, stealth = replace(training, epochs=1), replace(training, epochs=self.stealth_epochs)

        def combined(loss: Tensor, now: Tensor) -> Tensor:
            return loss + self.distance * length(now - honest)

        for epoch in range(training.epochs):
            before = flatten(model.state_dict())
            if len(data.poisoned):
                malicious(model, data.poisoned, data.wanted, derive_seed(seed, "malicious", epoch))
                scale_change(model, before, self.boost)
            stealth(model, data.images, data.labels, derive_seed(seed, "stealth", epoch), Penalty(combined))
