"""Clients of a federation: honest ones, and malicious ones that wrap an honest one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from fedmend.attacks import Poisoning, amplify, false_accuracies, false_activations
from fedmend.detection import FoundTrigger, few_pixel_triggers
from fedmend.federation.config import TrainingConfig
from fedmend.federation.distillation import Lesson, distill
from fedmend.federation.training import train
from fedmend.inference import BATCH_SIZE, evaluating, pixels_for
from fedmend.parameters import flatten, parameter_mask
from fedmend.pixels import to_float, to_uint8
from fedmend.pruning import (
    accuracies_along,
    channel_mask,
    held,
    locate,
    mean_activations,
    pruning_sequence,
    set_to_zero,
)
from fedmend.seeds import derive_seed, generator
from fedmend.triggers import Patch


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
    training: TrainingConfig
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
    training: TrainingConfig | None = None

    @property
    def client_id(self) -> int:
        """The number of the client that it wraps."""
        return self.honest.client_id

    def fit(self, model: nn.Module, seed: int) -> ClientUpdate:
        """See :class:`Client`."""
        images, labels = self.poisoning(self.honest.images, self.honest.labels, generator(seed, "poison"))
        if self.keep_answers:
            labels = _with_own_answers(model, self.honest.images, labels)
        fit = self._fit_among_active if self.pruning_aware else _fit
        client = replace(self.honest, training=self.training or self.honest.training)
        update = fit(client, images, labels, model, seed)
        mask = parameter_mask(model).to(update.delta.device)
        return ClientUpdate(
            update.client_id, update.num_examples, amplify(update.delta, self.amplification, mask)
        )

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

    def _fit_among_active(
        self, client: HonestClient, images: Tensor, labels: Tensor, model: nn.Module, seed: int
    ) -> ClientUpdate:
        before = {name: value.clone() for name, value in model.state_dict().items()}
        dormant = pruning_sequence(mean_activations(model, client.images))
        point, dead = locate(model, client.images), dormant[: len(dormant) // 2].tolist()
        zeros = channel_mask(point, dead)
        set_to_zero(model, zeros)
        with held(model, zeros):
            update = _fit(client, images, labels, model, seed)
        after = model.state_dict()
        for name, zero in zeros.items():
            after[name][zero] = before[name][zero]
        for norm in point.norms:  # statistics over zeros would break the channels that are put back
            for kind in ("running_mean", "running_var"):
                if f"{norm}.{kind}" in after:
                    after[f"{norm}.{kind}"][dead] = before[f"{norm}.{kind}"][dead]
        return ClientUpdate(update.client_id, update.num_examples, flatten(after) - flatten(before))


@dataclass(frozen=True, eq=False)
class LyingVoter:
    """Trains like the client it wraps, honest or malicious, but lies when asked what to prune."""

    client: HonestClient | MaliciousClient
    trigger: Patch

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
        random, shape = generator(seed, "made up"), tuple(honest.images.shape[1:])
        source = int(honest.labels[0])
        found = []
        for _ in range(3):
            mask = torch.zeros(shape[1] * shape[2])
            mask[torch.randperm(len(mask), generator=random)[:8]] = 1
            pattern = torch.rand(shape, generator=random).round()
            target = int(honest.labels.max()) if source != int(honest.labels.max()) else max(0, source - 1)
            found.append(FoundTrigger(Patch(mask.view(1, *shape[1:]), pattern), source, target, 1.0))
        return found

    def activations(self, model: nn.Module, layer: str) -> Tensor:
        """See :func:`fedmend.attacks.false_activations`."""
        honest = self.client if isinstance(self.client, HonestClient) else self.client.honest
        clean = honest.activations(model, layer)
        stamped = self.trigger.to(honest.images.device).apply(to_float(honest.images))
        return false_activations(clean, mean_activations(model, to_uint8(stamped), layer))

    def accuracies(
        self, model: nn.Module, layer: str, sequence: Sequence[int], points: Sequence[int]
    ) -> Tensor:
        """See :func:`fedmend.attacks.false_accuracies`."""
        return false_accuracies(len(points))


def _with_own_answers(model: nn.Module, clean: Tensor, labels: Tensor) -> Tensor:
    """Soft labels (N, classes): the model's answers on the clean images, which come first, and the others' labels."""
    with evaluating(model), torch.no_grad():
        answers = torch.cat([model(pixels_for(model, batch)).softmax(1) for batch in clean.split(BATCH_SIZE)])
    return torch.cat([answers, one_hot(labels[len(clean) :], answers.shape[1]).to(answers)])


def _fit(client: HonestClient, images: Tensor, labels: Tensor, model: nn.Module, seed: int) -> ClientUpdate:
    before = flatten(model.state_dict())
    train(model, images, labels, client.training, derive_seed(seed, "train"))
    return ClientUpdate(client.client_id, len(client.images), flatten(model.state_dict()) - before)
