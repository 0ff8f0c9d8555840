"""An attacker that has fedmend: it scans its own model as the guard will, and unlearns what the scan finds."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from fedmend import Case, scan
from fedmend.attacks import AttackData
from fedmend.checked_settings import Count, PositiveFraction, settings
from fedmend.detection import Differential
from fedmend.local_training import LocalTraining
from fedmend.parameters import flatten, unflatten
from fedmend.pixels import to_float
from fedmend.seeds import derive_seed, generator


@settings
class ScanAware:
    """Train, scan, add copies with the recovered triggers and their true classes, and train again.

    Only the attacker's own trigger is to work, not those that a search finds on the way to it. The search is the
    default detector's, with all its settings and the right reference: the global model. What is scanned is the
    candidate that the attacker expects if the other clients' updates cancel.

    Attributes:
        turns: how often it scans, at most; it stops at a scan that says clean.
        part: of its update, in (0, 1], that it expects in the candidate.
        images_per_class: of its own images, for a scan.
        copies: for each recovered trigger, the fraction of its clean images that it stamps.
    """

    turns: Count = 3
    part: PositiveFraction = 1 / 3
    images_per_class: Count = 40
    copies: PositiveFraction = 0.1

    def __call__(self, model: nn.Module, data: AttackData, training: LocalTraining, seed: int) -> None:
        """See :class:`fedmend.attacks.AttackMethod`."""
        before, (images, labels) = deepcopy(model).eval(), data.mixed
        training(model, images, labels, derive_seed(seed, 0))
        for turn in range(1, self.turns + 1):
            report = scan(
                self._case(model, before, data, seed), Differential(), seed=derive_seed(seed, "scan", turn)
            )
            if report.verdict == "clean":
                return
            found = [
                each
                for target in report.findings[0].targets
                for each in (target.trigger, *target.variants)
                if each is not None
            ]
            rng = generator(seed, "copies", turn)
            for trigger in found:
                chosen = torch.randperm(len(data.images), generator=rng)[
                    : int(self.copies * len(data.images))
                ]
                stamped = trigger.apply(to_float(data.images[chosen]))
                images = torch.cat([images, (255 * stamped).round().to(images.dtype)])
                labels = torch.cat([labels, data.labels[chosen]])
            training(model, images, labels, derive_seed(seed, turn))

    def _case(self, model: nn.Module, before: nn.Module, data: AttackData, seed: int) -> Case:
        start = flatten(before.state_dict())
        expected = deepcopy(model).eval()
        after = start + self.part * (flatten(model.state_dict()) - start)
        expected.load_state_dict(unflatten(after, model.state_dict()))
        labels = classes(data.labels)
        chosen = drawn(labels, self.images_per_class, seed)
        return Case(expected, before, data.images[chosen], labels[chosen])


def classes(labels: Tensor) -> Tensor:
    """Hard labels (N,) of hard or soft ones."""
    return labels.argmax(1) if labels.ndim == 2 else labels


def drawn(labels: Tensor, per_class: int, seed: int) -> Tensor:
    """The places of up to ``per_class`` images of each class."""
    order = torch.randperm(len(labels), generator=generator(seed, "images"))
    return torch.cat([order[labels[order] == each][:per_class] for each in labels.unique()])
