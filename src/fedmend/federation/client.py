"""Clients of a federation: honest ones, and malicious ones that wrap an honest one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from fedmend.attacks import Poisoning, amplify
from fedmend.federation.config import TrainingConfig
from fedmend.federation.training import train
from fedmend.parameters import flatten, parameter_mask
from fedmend.pruning import channel_zeros, held, locate, mean_activations, pruning_sequence, set_to_zero
from fedmend.seeds import derive_seed, generator


@dataclass(frozen=True, eq=False)
class ClientUpdate:
    """What a client sends after training: the change of the model as a flat vector (see ``parameters``)."""

    client_id: int
    num_examples: int
    delta: Tensor


class Client(Protocol):
    """One participant."""

    @property
    def client_id(self) -> int:
        """Its number, from 0."""

    def fit(self, model: nn.Module, seed: int) -> ClientUpdate:
        """Train ``model``, which holds the global weights and may be changed, and return the change."""


@dataclass(frozen=True, eq=False)
class HonestClient:
    """Trains on its own images, uint8 (N, C, H, W), and reports what came out."""

    client_id: int
    images: Tensor
    labels: Tensor
    training: TrainingConfig

    def fit(self, model: nn.Module, seed: int) -> ClientUpdate:
        """See :class:`Client`."""
        return _fit(self, self.images, self.labels, model, seed)


@dataclass(frozen=True, eq=False)
class MaliciousClient:
    """Poisons the images of the client it wraps, trains like it, and amplifies the update.

    It reports as many examples as the honest client has: claiming more would give it away. A ``pruning_aware`` one
    trains without the half of the last convolution's channels that its clean images use least (pruning paper, 5.5.1,
    after Liu et al.), and leaves these as they are.
    """

    honest: HonestClient
    poisoning: Poisoning
    amplification: float = 1.0
    pruning_aware: bool = False

    @property
    def client_id(self) -> int:
        """The number of the client that it wraps."""
        return self.honest.client_id

    def fit(self, model: nn.Module, seed: int) -> ClientUpdate:
        """See :class:`Client`."""
        images, labels = self.poisoning(self.honest.images, self.honest.labels, generator(seed, "poison"))
        fit = self._fit_among_active if self.pruning_aware else _fit
        update = fit(self.honest, images, labels, model, seed)
        mask = parameter_mask(model).to(update.delta.device)
        return ClientUpdate(
            update.client_id, update.num_examples, amplify(update.delta, self.amplification, mask)
        )

    def _fit_among_active(
        self, client: HonestClient, images: Tensor, labels: Tensor, model: nn.Module, seed: int
    ) -> ClientUpdate:
        before = {name: value.clone() for name, value in model.state_dict().items()}
        dormant = pruning_sequence(mean_activations(model, client.images))
        zeros = channel_zeros(locate(model, client.images), dormant[: len(dormant) // 2].tolist())
        set_to_zero(model, zeros)
        with held(model, zeros):
            update = _fit(client, images, labels, model, seed)
        after = model.state_dict()
        for name, zero in zeros.items():
            after[name][zero] = before[name][zero]
        return ClientUpdate(update.client_id, update.num_examples, flatten(after) - flatten(before))


def _fit(client: HonestClient, images: Tensor, labels: Tensor, model: nn.Module, seed: int) -> ClientUpdate:
    before = flatten(model.state_dict())
    train(model, images, labels, client.training, derive_seed(seed, "train"))
    return ClientUpdate(client.client_id, len(client.images), flatten(model.state_dict()) - before)
