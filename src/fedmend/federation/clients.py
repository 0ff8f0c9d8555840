"""Clients of a federation: honest ones, and malicious ones that wrap an honest one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from fedmend.attacks import Amplify, Attack, Lies, Poisoning
from fedmend.detection import FoundTrigger, few_pixel_triggers
from fedmend.federation.distillation import Lesson, distill
from fedmend.local_training import LocalTraining
from fedmend.parameters import flatten
from fedmend.pruning import accuracies_along, mean_activations
from fedmend.seeds import derive_seed
from fedmend.triggers import Trigger, stamp_stored


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

    def triggers(self, model: nn.Module, seed: int) -> list[FoundTrigger]:
        """The few-pixel triggers that it finds in the model (see ``fedmend.detection.few_pixel_triggers``)."""

    def activations(self, model: nn.Module, layer: str) -> Tensor:
        """Mean activation of each channel of a layer, (C,), of which its ballots are made; never sent itself."""

    def accuracies(
        self, model: nn.Module, layer: str, sequence: Sequence[int], points: Sequence[int]
    ) -> Tensor:
        """Its accuracy along a pruning sequence, (points,) (see ``fedmend.pruning.accuracies_along``)."""


@dataclass(frozen=True, eq=False)
class HonestClient:
    """Trains on its own images, uint8 (N, C, H, W), and reports what came out; with a ``lesson``, as that says."""

    client_id: int
    images: Tensor
    labels: Tensor
    training: LocalTraining
    lesson: Lesson | None = None

    def fit(self, model: nn.Module, seed: int) -> ClientUpdate:
        """See :class:`Client`."""
        if self.lesson is None:
            return _fit(self, self.images, self.labels, model, seed)
        before = flatten(model.state_dict())
        distill(model, self.images, self.lesson, self.training, derive_seed(seed, "train"))
        return ClientUpdate(self.client_id, len(self.images), flatten(model.state_dict()) - before)

    def triggers(self, model: nn.Module, seed: int) -> list[FoundTrigger]:
        """See :class:`Client`."""
        return few_pixel_triggers(model, self.images, self.labels, seed=seed)

    def activations(self, model: nn.Module, layer: str) -> Tensor:
        """See :class:`Client`."""
        return mean_activations(model, self.images, layer)

    def accuracies(
        self, model: nn.Module, layer: str, sequence: Sequence[int], points: Sequence[int]
    ) -> Tensor:
        """See :class:`Client`."""
        return accuracies_along(model, sequence, points, self.images, self.labels, layer=layer)


@dataclass(frozen=True, eq=False)
class MaliciousClient:
    """Poisons the images of the client it wraps, trains like it, and amplifies the update.

    It reports as many examples as the honest client has: claiming more would give it away. A ``pruning_aware`` one
    trains without the half of the last convolution's channels that its clean images use least (pruning paper, 5.5.1,
    after Liu et al.), and leaves these as they are. With ``keep_answers``
    its clean images teach the global model's own answers. ``training`` is its own, if not the honest client's.
    """

    honest: HonestClient
    poisoning: Poisoning
    amplification: float = 1.0
    pruning_aware: bool = False
    keep_answers: bool = False
    training: LocalTraining | None = None

    @property
    def client_id(self) -> int:
        """The number of the client that it wraps."""
        return self.honest.client_id

    def fit(self, model: nn.Module, seed: int) -> ClientUpdate:
        """See :class:`Client`."""
        attack = Attack(
            self.poisoning,
            (Amplify(self.amplification),),
            self.training,
            keep_predictions=self.keep_answers,
            pruning_aware=self.pruning_aware,
        )
        own = self.honest
        delta = attack.fit(model, own.images, own.labels, own.training, seed)
        return ClientUpdate(own.client_id, len(own.images), delta)

    def triggers(self, model: nn.Module, seed: int) -> list[FoundTrigger]:
        """None: it has nothing to gain by telling."""
        return []

    def activations(self, model: nn.Module, layer: str) -> Tensor:
        """The honest client's."""
        return self.honest.activations(model, layer)

    def accuracies(
        self, model: nn.Module, layer: str, sequence: Sequence[int], points: Sequence[int]
    ) -> Tensor:
        """The honest client's."""
        return self.honest.accuracies(model, layer, sequence, points)


@dataclass(frozen=True, eq=False)
class LyingVoter:
    """Trains like the client it wraps, honest or malicious, but lies when asked what to prune."""

    client: HonestClient | MaliciousClient
    trigger: Trigger

    @property
    def client_id(self) -> int:
        """The number of the client that it wraps."""
        return self.client.client_id

    def fit(self, model: nn.Module, seed: int) -> ClientUpdate:
        """The wrapped client's."""
        return self.client.fit(model, seed)

    def triggers(self, model: nn.Module, seed: int) -> list[FoundTrigger]:
        """Pixels taken at random, with the highest rate that there is."""
        honest = self.client if isinstance(self.client, HonestClient) else self.client.honest
        said = Lies(self.trigger).triggers(honest.labels, tuple(honest.images.shape[1:]), seed)
        return [FoundTrigger(*each) for each in said]

    def activations(self, model: nn.Module, layer: str) -> Tensor:
        """See :class:`fedmend.attacks.Lies`."""
        honest = self.client if isinstance(self.client, HonestClient) else self.client.honest
        clean = honest.activations(model, layer)
        stamped = mean_activations(model, stamp_stored(self.trigger, honest.images), layer)
        return Lies(self.trigger).activations(clean, stamped)

    def accuracies(
        self, model: nn.Module, layer: str, sequence: Sequence[int], points: Sequence[int]
    ) -> Tensor:
        """See :class:`fedmend.attacks.Lies`."""
        return Lies(self.trigger).accuracies(len(points))


def _fit(client: HonestClient, images: Tensor, labels: Tensor, model: nn.Module, seed: int) -> ClientUpdate:
    before = flatten(model.state_dict())
    client.training(model, images, labels, derive_seed(seed, "train"))
    return ClientUpdate(client.client_id, len(client.images), flatten(model.state_dict()) - before)
