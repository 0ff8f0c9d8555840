"""The rules by which a candidate is accepted, repaired or rolled back, in their order."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from fedmend.detection import Detector, Need
from fedmend.guard.own_images import OwnImages
from fedmend.guard.policy import GuardPolicy
from fedmend.guard.rulings import Round, Ruling
from fedmend.guard.scan_rules import ruled_by_scans
from fedmend.guard.weights import digest, model_with
from fedmend.inference import batch_size_for, evaluating, pixels_for


def ruled(of: Round) -> Ruling:
    """Apply the rules: the first that decides, decides. Before them, weights of a wrong shape were rejected."""
    last = of.ledger.last
    if last is not None and last.stored.weights == digest(of.candidate):
        said = f"The candidate has the weights of {last.said}."
        return Ruling("accept", "unchanged", said, accuracy=last.accuracy)
    model = model_with(of.candidate, of.template)
    if not finite_logits(model, of.images):
        said = "The candidate returns NaN or infinite logits on the guard's images."
        return Ruling("rollback", "not finite", said)
    accuracy = of.images.accuracy(model)
    return replace(_ruled_by_policy(of, model, accuracy), accuracy=accuracy)


def _ruled_by_policy(of: Round, model: nn.Module, accuracy: float) -> Ruling:
    policy, reviews = of.policy, of.ledger.reviews
    low = _not_accurate_enough(of, accuracy)
    if low is not None:
        return Ruling("rollback", "below the floor", low)
    if reviews < policy.warm_up:
        said = f"Round {reviews + 1} of {policy.warm_up} in which the policy trusts all clients; it wasn't scanned."
        return Ruling("accept", "warm-up", said, of.candidate, accuracy)
    detectors = _detectors(policy, of.ledger.last is not None)
    if not detectors:
        said = (
            "There is no accepted model to compare with. Give the guard a trusted model, or choose warm_up or "
            "first_detectors in its policy."
        )
        return Ruling("rollback", "no trusted reference", said)
    if of.number % policy.every:
        said = f"The policy scans every {policy.every} rounds; this one is neither scanned nor released."
        return Ruling("hold", "unchecked", said)
    return ruled_by_scans(of, detectors, (model, accuracy))


def _not_accurate_enough(of: Round, accuracy: float) -> str | None:
    """Why a candidate isn't accurate enough for the policy, in a sentence; None if it is."""
    floor, drop, last = of.policy.accuracy_floor, of.policy.accuracy_drop, of.ledger.last
    said = f"The candidate gets {accuracy:.1%} of the guard's images right"
    if floor is not None and accuracy < floor:
        return f"{said}; the floor is {floor:.1%}."
    if drop is not None and last is not None and last.accuracy - accuracy > drop + 1e-9:
        return f"{said}, {last.said} {last.accuracy:.1%}; allowed is a drop of {drop:.1%}."
    return None


def _detectors(policy: GuardPolicy, with_reference: bool) -> tuple[Detector, ...]:
    """The policy's detectors; without a reference, those for the first rounds, or all if none needs a reference."""
    made = policy.made_detectors()
    if with_reference or not any(Need.REFERENCE in each.needs for each in made):
        return made
    return policy.made_first_detectors()


@torch.no_grad()
def finite_logits(model: nn.Module, images: OwnImages) -> bool:
    """Whether a model returns only finite logits on the guard's images."""
    with evaluating(model):
        batches = images.images.split(batch_size_for(images.images))
        return all(bool(model(pixels_for(model, batch)).isfinite().all()) for batch in batches)
