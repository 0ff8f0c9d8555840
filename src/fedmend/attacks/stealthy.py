"""Bhagoji's stealthy attack: a boosted malicious loss, an honest one, and a penalty on unusual updates, all at once."""

from __future__ import annotations

from copy import deepcopy

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fedmend.attacks.methods import AttackData, Penalty, length, parameter_vector
from fedmend.checked_settings import NonNegative, settings
from fedmend.errors import DataError
from fedmend.local_training import LocalTraining
from fedmend.pixels import to_float


@settings
class Stealthy:
    """Minimise ``boost * L_malicious + L_clean + distance * |change - honest change|``.

    Bhagoji et al., "Analyzing Federated Learning through an Adversarial Lens" (2019), section 4.1. Deviations: the
    honest change is what this attacker's own training on its clean images makes, where the paper takes the last round's
    mean; and each batch of clean images comes with all poisoned ones, at most 256.

    Attributes:
        boost: the paper's lambda, the weight of the malicious loss.
        distance: the paper's rho, the weight of the distance from an honest change.
    """

    boost: NonNegative = 2.0
    distance: NonNegative = 0.01

    def __call__(self, model: nn.Module, data: AttackData, training: LocalTraining, seed: int) -> None:
        """See :class:`fedmend.attacks.AttackMethod`."""
        honest = honest_parameters(model, data, training, seed)
        poisoned, wanted = to_float(data.poisoned[:_MOST]), data.wanted[:_MOST]

        def combined(loss: Tensor, now: Tensor) -> Tensor:
            malicious = cross_entropy(model(poisoned), wanted) if len(poisoned) else loss.new_zeros(())
            return loss + self.boost * malicious + self.distance * length(now - honest)

        training(model, data.images, data.labels, seed, Penalty(combined))


_MOST = 256


def honest_parameters(model: nn.Module, data: AttackData, training: LocalTraining, seed: int) -> Tensor:
    """The parameters after honest training of a copy, a vector; the model stays as it is.

    Raises:
        DataError: there are no clean images. DivergedError: training diverged.
    """
    if not len(data.images):
        raise DataError("an attacker that imitates honest training needs clean images; got none")
    copy = deepcopy(model)
    training(copy, data.images, data.truth, seed)
    return parameter_vector(copy).detach()
