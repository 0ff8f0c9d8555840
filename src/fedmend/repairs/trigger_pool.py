"""The triggers that clients found in a suspect model, pooled. Clients are untrusted: what they send is checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from fedmend.detection import FoundTrigger, moved
from fedmend.federation.distillation import Distillation, Lesson
from fedmend.inference import device_of
from fedmend.pruning import Ballots, is_plain
from fedmend.repairs.vote_pruning import VotedTrigger
from fedmend.triggers import Patch


class TriggerPool(Ballots):
    """Collects triggers, a few a client.

    A client can claim any rate; :meth:`check` puts what the server measures in place of the claims. What an attacker
    adds then takes a part of the training away, and a place among :meth:`best` only by working.

    Args:
        shape: of an image, (C, H, W). classes: how many there are. num_clients: as for ``Ballots``.
        most: triggers a client may send. pixels: how many each may have.

    Attributes:
        found: (client, trigger) in the order in which they came.
        counted, refused: as for ``Ballots``.
    """

    def __init__(
        self, shape: tuple[int, int, int], classes: int, num_clients: int, *, most: int = 3, pixels: int = 8
    ) -> None:
        super().__init__(num_clients)
        self.shape, self.classes, self.most, self.pixels = shape, classes, most, pixels
        self.found: list[tuple[int, FoundTrigger]] = []

    def add(self, client: int, triggers: Sequence[FoundTrigger]) -> str | None:
        """Take a client's triggers in; returns why they were refused, or None."""
        reason = self.admit(client, self._flaw(triggers))
        if reason is None:
            self.found += [(client, replace(each, trigger=_copy(each.trigger))) for each in triggers]
        return reason

    def check(self, model: nn.Module, images: Tensor, labels: Tensor) -> None:
        """Replace each claimed rate by the one on the server's own images: 0 where it has none of the class."""
        for index, (client, claim) in enumerate(self.found):
            own = images[labels == claim.source_class]
            rate = moved(model, claim.trigger, own, claim.source_class, claim.target_class)
            self.found[index] = (client, replace(claim, rate=rate))

    def best(self, most: int) -> list[FoundTrigger]:
        """The triggers with the highest rates, at most so many, one for each pair of classes."""
        chosen: dict[tuple[int, int], FoundTrigger] = {}
        for _, each in sorted(self.found, key=lambda found: -found[1].rate):
            chosen.setdefault((each.source_class, each.target_class), each)
        return list(chosen.values())[:most]

    def evidence(self) -> tuple[VotedTrigger, ...]:
        """The triggers for a report, the highest rate first."""
        told = []
        for client, found in sorted(self.found, key=lambda each: -each[1].rate):
            rows, columns = found.trigger.mask[0].nonzero(as_tuple=True)
            told.append(
                VotedTrigger(
                    client,
                    found.source_class,
                    found.target_class,
                    found.rate,
                    tuple(zip(rows.tolist(), columns.tolist(), strict=True)),
                )
            )
        return tuple(told)

    def lesson(self, teacher: nn.Module, settings: Distillation, lr: float) -> Lesson:
        """What to teach: each trigger as often as the cube of its rate says, so that what works best comes first."""
        device = device_of(teacher)
        channels, height, width = self.shape
        masks, patterns = torch.zeros(0, 1, height, width), torch.zeros(0, channels, height, width)
        triggers = [trigger for _, trigger in self.found]
        if triggers:
            masks = torch.stack([each.trigger.mask.to(device) for each in triggers])
            patterns = torch.stack([each.trigger.pattern.to(device) for each in triggers])
        weights = torch.tensor([each.rate**3 + 0.001 for each in triggers], device=device)
        return Lesson(teacher, masks.to(device), patterns.to(device), weights, settings, lr)

    def _flaw(self, triggers: object) -> str | None:
        if not isinstance(triggers, Sequence) or len(triggers) > self.most:
            return "too many triggers, or none that can be counted"
        for each in triggers:
            if not isinstance(each, FoundTrigger) or not isinstance(each.trigger, Patch):
                return "something other than triggers"
            mask, pattern = each.trigger.mask, each.trigger.pattern
            if not is_plain(mask, (torch.float32,)) or not is_plain(pattern, (torch.float32,)):
                return "triggers of another kind of numbers than float32"
            if pattern.shape != self.shape or mask.shape != (1, *self.shape[1:]):
                return "triggers for images of another shape"
            if not bool(((pattern >= 0) & (pattern <= 1)).all()):
                return "triggers of colours that there aren't"
            if not bool(((mask == 0) | (mask == 1)).all()) or not 0 < int(mask.sum()) <= self.pixels:
                return "triggers of no or too many pixels, or not of whole ones"
            classes = (each.source_class, each.target_class)
            if not all(type(one) is int and 0 <= one < self.classes for one in classes):
                return "triggers between classes that there aren't"
            if classes[0] == classes[1]:
                return "triggers between classes that there aren't"
            if type(each.rate) is not float or not 0 <= each.rate <= 1:
                return "a trigger's rate below 0 or above 1"
        return None


def _copy(trigger: Patch) -> Patch:
    """One that the client has no hold of any more."""
    return Patch(trigger.mask.detach().cpu().clone(), trigger.pattern.detach().cpu().clone())
