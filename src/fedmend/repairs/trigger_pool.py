"""The triggers that clients found in a suspect, pooled. Clients are untrusted, so their triggers are checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from fedmend.detection import FoundTrigger, Target, moved
from fedmend.inference import device_of
from fedmend.local_training import LocalTraining
from fedmend.pruning import Ballots
from fedmend.repairs.distillation import Distillation, DistillationTask
from fedmend.repairs.repair_report import VotedTrigger
from fedmend.triggers import Addition, Patch
from fedmend.untrusted import is_plain, plain_tensor

MOST_TRIGGERS = 8
_FLOATS = (torch.float32,)
_ROUNDING = 1e-4


class TriggerPool(Ballots):
    """Collects a few triggers from each client.

    A client can claim any rate; :meth:`check` replaces the claims with the server's measurements. A made-up trigger
    then only wastes some of the training, and is among :meth:`best` only if it works.

    Args:
        shape: of an image, (C, H, W).
        classes: number of classes.
        num_clients: number of clients, numbered from 0.
        most: most triggers that a client may send.
        pixels: most pixels of a patch, each replaced wholly. strength: the largest root mean square of a faint pattern,
            an :class:`~fedmend.triggers.Addition`. They bound what a made-up trigger can teach honest clients.

    Attributes:
        found: (client, trigger), in order of arrival.
        counted, refused: see :class:`~fedmend.pruning.Ballots`.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        classes: int,
        num_clients: int,
        *,
        most: int = MOST_TRIGGERS,
        pixels: int = 24,
        strength: float = 0.1,
    ) -> None:
        super().__init__(num_clients)
        self.shape, self.classes, self.most = shape, classes, most
        self.pixels, self.strength = pixels, strength
        self.found: list[tuple[int, FoundTrigger]] = []

    def add(self, client: int, triggers: Sequence[FoundTrigger]) -> str | None:
        """Add a client's triggers; returns why they were refused, or None."""
        taken = self._taken(triggers)
        reason = self.admit(client, taken if isinstance(taken, str) else None)
        if reason is None and not isinstance(taken, str):
            self.found += [(client, each) for each in taken]
        return reason

    def check(self, model: nn.Module, images: Tensor, labels: Tensor) -> None:
        """Replace each claimed rate by the rate on the server's images, or by 0 if none is of the source class."""
        for index, (client, claim) in enumerate(self.found):
            own = images[labels == claim.source_class]
            rate = moved(model, claim.trigger, own, claim.source_class, claim.target_class)
            self.found[index] = (client, replace(claim, rate=rate))

    def best(self, most: int) -> list[FoundTrigger]:
        """The triggers with the highest rates, one for each pair of classes, at most ``most``."""
        chosen: dict[tuple[int, int], FoundTrigger] = {}
        for _, each in sorted(self.found, key=lambda found: -found[1].rate):
            chosen.setdefault((each.source_class, each.target_class), each)
        return list(chosen.values())[:most]

    def targets(self) -> tuple[Target, ...]:
        """Every trigger, as a detector would name it."""
        return tuple(
            Target(each.target_class, each.rate, (each.source_class,), each.trigger) for _, each in self.found
        )

    def listed(self) -> tuple[VotedTrigger, ...]:
        """The triggers for a report, the highest rate first."""
        listed = []
        for client, found in sorted(self.found, key=lambda each: -each[1].rate):
            pixels: tuple[tuple[int, int], ...] = ()
            if isinstance(found.trigger, Patch):
                rows, columns = found.trigger.mask[0].nonzero(as_tuple=True)
                pixels = tuple(zip(rows.tolist(), columns.tolist(), strict=True))
            listed.append(VotedTrigger(client, found.source_class, found.target_class, found.rate, pixels))
        return tuple(listed)

    def task(
        self, teacher: nn.Module, training: LocalTraining, settings: Distillation, number: int
    ) -> DistillationTask:
        """Self-distillation against the triggers, each drawn in proportion to the cube of its rate.

        Args:
            teacher: the suspect.
            training: the clients' training in a plain round.
            settings: how to distil.
            number: the fine-tuning round, from 1.
        """
        device = device_of(teacher)
        channels, height, width = self.shape
        kept, added = torch.zeros(0, 1, height, width), torch.zeros(0, channels, height, width)
        triggers = [trigger for _, trigger in self.found]
        if triggers:
            parts = [_linear(each.trigger) for each in triggers]
            kept, added = torch.stack([each for each, _ in parts]), torch.stack([each for _, each in parts])
        weights = torch.tensor([each.rate**3 + 0.001 for each in triggers], device=device)
        lr = settings.lr * settings.decay ** (number - 1)
        return DistillationTask(training, settings, lr, teacher, kept.to(device), added.to(device), weights)

    def _taken(self, triggers: object) -> list[FoundTrigger] | str:
        """Copies of what a client sent, which it can no longer change, or the flaw."""
        if type(triggers) not in (list, tuple):
            return "too many triggers, or no list of them"
        sent: list[object] = list(triggers[: self.most + 1])  # type: ignore[index]
        if len(sent) > self.most:
            return "too many triggers, or no list of them"
        taken = []
        for each in sent:
            try:
                copy = self._copy(each)
            except AttributeError:  # an object made without its constructor
                copy = "something other than triggers"
            if isinstance(copy, str):
                return copy
            taken.append(copy)
        return taken

    def _copy(self, sent: object) -> FoundTrigger | str:
        if type(sent) is not FoundTrigger or type(sent.trigger) not in (Patch, Addition):
            return "something other than triggers"
        trigger = self._copied(sent.trigger)
        if isinstance(trigger, str):
            return trigger
        source, target, rate = sent.source_class, sent.target_class, sent.rate
        if not all(type(one) is int and 0 <= one < self.classes for one in (source, target)):
            return "triggers between impossible classes"
        if source == target:
            return "triggers between impossible classes"
        if type(rate) is not float or not 0 <= rate <= 1:
            return "a trigger's rate below 0 or above 1"
        return FoundTrigger(trigger, source, target, rate)

    def _copied(self, sent: Patch | Addition) -> Patch | Addition | str:
        values = (sent.delta,) if isinstance(sent, Addition) else (sent.mask, sent.pattern)
        if not all(is_plain(each, _FLOATS) for each in values):
            return "triggers that are not float32"
        shapes = (self.shape,) if isinstance(sent, Addition) else ((1, *self.shape[1:]), self.shape)
        plain = [plain_tensor(each, _FLOATS, shape) for each, shape in zip(values, shapes, strict=True)]
        copies = [each for each in plain if each is not None]
        if len(copies) < len(values):
            return "triggers for images of another shape"
        if isinstance(sent, Addition):
            (delta,) = copies
            if not bool(((delta >= -1) & (delta <= 1)).all()):
                return "triggers of impossible colours"
            if not 0 < float(delta.square().mean().sqrt()) <= self.strength + _ROUNDING:
                return "faint patterns of no or too much strength"
            return Addition(delta)
        mask, pattern = copies
        if not bool(((pattern >= 0) & (pattern <= 1)).all()):
            return "triggers of impossible colours"
        if not bool(((mask == 0) | (mask == 1)).all()) or not 0 < int(mask.sum()) <= self.pixels:
            return "triggers of no, too many or partial pixels"
        return Patch(mask, pattern)


def _linear(trigger: Patch | Addition) -> tuple[Tensor, Tensor]:
    """A trigger as ``kept * x + added``, (1, H, W) and (C, H, W), before it is clamped."""
    if isinstance(trigger, Addition):
        return torch.ones_like(trigger.delta[:1]), trigger.delta
    return 1 - trigger.mask, trigger.mask * trigger.pattern
