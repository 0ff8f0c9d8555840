"""The rules by which a candidate is accepted, repaired or rolled back, in their order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from fedmend.detection import Detector, Need
from fedmend.detection.accuracy_rules import fair_accuracy
from fedmend.guard.ledger import Accepted
from fedmend.guard.own_images import OwnImages
from fedmend.guard.policy import GuardPolicy
from fedmend.guard.rulings import Round, Ruling
from fedmend.guard.scan_rules import ruled_by_scans
from fedmend.guard.scans import Reference
from fedmend.guard.weights import digest, model_with
from fedmend.inference import batch_size_for, evaluating, pixels_for

_TURN = 2
"""In every so many-th scan, a candidate is also compared with older references."""


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
    low = of.below_the_floor(accuracy, "The candidate")
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
    return ruled_by_scans(of, detectors, _references(of), (model, accuracy))


def _references(of: Round) -> list[Reference]:
    """The newest accepted model and, in every second scan, older ones, but for those by which a scan can say little.

    Were it in every scan, an older model by which no scan can say anything would hold back every candidate from then
    on. An older model shows more of a backdoor that is planted slowly, as the newer ones hold a part of it. Where the
    candidate is an older accepted model, it isn't compared with itself.
    """
    name = digest(of.candidate)
    models = [each for each in of.ledger.models if each.stored.weights != name]
    if not models:
        return []
    newest, older = _newest(of, models), {}
    if of.number // of.policy.every % _TURN == 0:
        chosen = (models[-min(count, len(models))] for count in of.policy.older_references)
        older = {
            each.stored.number: each
            for each in chosen
            if each.accuracy >= fair_accuracy(of.images.num_classes)
        }
    found = [
        _reference(of, older[key])
        for key in sorted(older, reverse=True)
        if key < newest.accepted.stored.number
    ]
    return [newest, *(each for each in found if _knows_all(of, each))]


def _newest(of: Round, models: Sequence[Accepted]) -> Reference:
    """The newest of the accepted models that has forgotten no class; the last one if all have.

    A round can make a model forget a class. Compared with that model, every later one that knows the class again would
    look like a backdoor of it, and be held back. An older reference shows whatever has come in since, too.
    """
    for accepted in reversed(models):
        found = _reference(of, accepted)
        if _knows_all(of, found):
            return found
    return _reference(of, models[-1])


def _knows_all(of: Round, reference: Reference) -> bool:
    return not of.images.forgotten(reference.model, of.policy.images_per_class, of.seed)


def _reference(of: Round, accepted: Accepted) -> Reference:
    return Reference(accepted, model_with(of.history.load(accepted), of.template))


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
