"""An attack as a whole: what an attacker trains on, how it trains, and what it does to its update."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from fedmend.attacks.collusion import Collusion
from fedmend.attacks.methods import AttackData, AttackMethod
from fedmend.attacks.poisoning import Poisoner
from fedmend.attacks.pruning_aware import without_dormant_channels
from fedmend.attacks.updates import UpdateContext, UpdateStep
from fedmend.errors import ConfigError
from fedmend.inference import batch_size_for, evaluating, pixels_for
from fedmend.local_training import LocalTraining
from fedmend.parameters import flatten, parameter_mask
from fedmend.seeds import derive_seed, generator
from fedmend.user_code import failures_named, name_of, tensor_in_words


@dataclass(frozen=True, eq=False)
class Attack:
    """What one attacker does in a round.

    Attributes:
        poisoning: of its training images; None: it trains honestly, for what it does to its update.
        update: what is done to its update, one step after the other.
        training: its own settings; None: it trains like the others.
        keep_predictions: clean images get the global model's own predictions as soft labels. Otherwise amplification
            would also amplify what sets the attacker's few classes apart.
        pruning_aware: train without the channels that clean images use least (see :mod:`.pruning_aware`).
        method: how it trains on clean and poisoned images; None: on all of them together, as on its own.
        collusion: what the attackers of a round make of their updates together. :meth:`fit` leaves it to the round.
    """

    poisoning: Poisoner | None
    update: tuple[UpdateStep, ...] = ()
    training: LocalTraining | None = None
    keep_predictions: bool = False
    pruning_aware: bool = False
    method: AttackMethod | None = None
    collusion: Collusion | None = None

    def fit(
        self, model: nn.Module, images: Tensor, labels: Tensor, training: LocalTraining, seed: int
    ) -> Tensor:
        """Train on poisoned images.

        Args:
            model: holds the global weights; trained in place.
            images: the attacker's clean images, uint8 (N, C, H, W), on the model's device.
            labels: their true classes, int64 (N,).
            training: the federation's settings, for an attack that has none of its own.
            seed: of everything random.

        Returns:
            The update to send, (P,), aligned with ``parameters.flatten``.

        Raises:
            ModelError: training diverged, or the model has no channels to prune (``pruning_aware``).
            ConfigError: an update step of the user's own failed, or returned something else than an update.
        """
        before = flatten(model.state_dict())
        mixed, classes = images, labels
        if self.poisoning is not None:
            mixed, classes = self.poisoning.against(model)(images, labels, generator(seed, "poison"))
        if self.keep_predictions:
            classes = _with_predictions(model, images, classes)
        with without_dormant_channels(model, images) if self.pruning_aware else nullcontext():
            count, own, train_seed = len(images), self.training or training, derive_seed(seed, "train")
            if self.method is None:
                own(model, mixed, classes, train_seed)
            else:
                clean, added = (mixed[:count], classes[:count]), (mixed[count:], classes[count:])
                data = AttackData(*clean, *added, truth=labels)
                self.method(model, data, own, train_seed)
        delta = flatten(model.state_dict()) - before
        context = UpdateContext(parameter_mask(model).to(delta.device), before, derive_seed(seed, "update"))
        for step in self.update:
            delta = _stepped(step, delta, context)
        return delta


def _stepped(step: UpdateStep, delta: Tensor, context: UpdateContext) -> Tensor:
    """What a step, maybe a user's own, makes of an update.

    Raises:
        ConfigError: it failed, or returned something else than an update.
    """
    with failures_named("update step", step):
        after = step(delta, context)
    like = isinstance(after, Tensor) and (after.shape, after.dtype) == (delta.shape, delta.dtype)
    if not like or after.device != delta.device:
        raise ConfigError(
            f"the update step {name_of(step)} must return a new update like the one it is given, "
            f"{tensor_in_words(delta)}; got {tensor_in_words(after)}"
        )
    return after


def _with_predictions(model: nn.Module, clean: Tensor, classes: Tensor) -> Tensor:
    """Soft labels (N, classes): predictions for the clean images, which come first, then the copies' classes."""
    with evaluating(model), torch.no_grad():
        soft = torch.cat(
            [model(pixels_for(model, batch)).softmax(1) for batch in clean.split(batch_size_for(clean))]
        )
    return torch.cat([soft, one_hot(classes[len(clean) :], soft.shape[1]).to(soft)])
