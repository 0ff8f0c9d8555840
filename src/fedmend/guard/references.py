"""Which accepted models a candidate is compared with."""

from __future__ import annotations

from collections.abc import Sequence

from fedmend.detection.accuracy_rules import fair_accuracy
from fedmend.errors import DataError
from fedmend.guard.ledger import Accepted
from fedmend.guard.rulings import Round
from fedmend.guard.scans import Reference
from fedmend.guard.weights import digest, model_with

_TURN = 2
"""In every so many-th scan, a candidate is also compared with older references."""


class DamagedHistoryError(DataError):
    """An accepted model can't be read: no reason to reject a candidate, but to end the review."""


def references_for(of: Round) -> list[Reference]:
    """The newest accepted model and, in every second scan, older ones, but for those by which a scan can say little.

    Were it in every scan, an older model by which no scan can say anything would hold back every candidate from then
    on. An older model shows more of a backdoor that is planted slowly, as the newer ones hold a part of it. Where the
    candidate is an older accepted model, it isn't compared with itself.

    Raises:
        DamagedHistoryError: a model's file isn't as the guard wrote it.
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
        reference_of(of, older[key])
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
        found = reference_of(of, accepted)
        if _knows_all(of, found):
            return found
    return reference_of(of, models[-1])


def _knows_all(of: Round, reference: Reference) -> bool:
    return not of.images.forgotten(reference.model, of.policy.images_per_class, of.seed)


def reference_of(of: Round, accepted: Accepted) -> Reference:
    """An accepted model, read from the history.

    Raises:
        DamagedHistoryError: its file isn't as the guard wrote it.
    """
    try:
        state = of.history.load(accepted)
    except DataError as error:
        raise DamagedHistoryError(str(error)) from error
    return Reference(accepted, model_with(state, of.template))
