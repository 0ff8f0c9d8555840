"""Constrain-and-scale: an attacker keeps its model close to what a detector of anomalies expects."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from fedmend.attacks.methods import AttackData, Penalty, length, parameter_vector
from fedmend.checked_settings import PositiveFraction, settings
from fedmend.local_training import LocalTraining


@settings
class ConstrainAndScale:
    """Train with an anomaly term in the loss: ``alpha * L_class + (1 - alpha) * L_ano``.

    Bagdasaryan et al., "How To Backdoor Federated Learning" (2020), section 4.3, equation 4. The anomaly is the
    distance from the global model. The paper then scales the update: add an ``amplify`` step. Deviation: training runs
    for all its epochs, where the paper stops early once the backdoor is learned.

    Attributes:
        alpha: weight of the classification loss, in (0, 1]; at 1 nothing is constrained.
        distance: "l2", the norm of the change of the parameters, or "cosine", one minus the models' cosine.
    """

    alpha: PositiveFraction = 0.7
    distance: Literal["l2", "cosine"] = "l2"

    def __call__(self, model: nn.Module, data: AttackData, training: LocalTraining, seed: int) -> None:
        """See :class:`fedmend.attacks.AttackMethod`."""
        before = parameter_vector(model).detach().clone()

        def combined(loss: Tensor, now: Tensor) -> Tensor:
            anomaly = (
                length(now - before) if self.distance == "l2" else 1 - cosine_similarity(now, before, dim=0)
            )
            return self.alpha * loss + (1 - self.alpha) * anomaly

        training(model, *data.mixed, seed, Penalty(combined))
