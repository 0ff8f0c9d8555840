"""The record of a repair, whichever method made it; to JSON and back without loss."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from pydantic import TypeAdapter

from fedmend.detection.base import Verdict
from fedmend.detection.json_types import STRICT, from_json_text, to_json_text

Outcome = Literal["repaired", "unverified", "failed", "not needed", "undecided"]
StageName = Literal["suspect", "pruned", "adjusted", "fine-tuned", "adjusted again"]

TELLING_RATE = 0.8
FEW_PIXELS = 8


@dataclass(frozen=True)
class TargetCheck:
    """Whether the triggers that were found for a target still work.

    Attributes:
        target: the class that it sends images to. sources: the classes of these images; empty for all others.
        success_before, success_after: fraction, in [0, 1], of the sources' images that the suspect and the repaired
            model send there, of the trigger that works best on the repaired model, beyond what it does in the
            reference. In a repair by votes, images that a model misclassifies without the trigger don't count as sent.
        triggers: how many different ones were tried.
        success_reference: the fraction that a clean reference sends there; None where that was not tried.
    """

    __pydantic_config__ = STRICT

    target: int
    sources: tuple[int, ...]
    success_before: float
    success_after: float
    triggers: int = 1
    success_reference: float | None = None

    @property
    def excess(self) -> float:
        """The repaired model's success beyond the reference's; all of it where no reference was tried."""
        return self.success_after - (self.success_reference or 0.0)

    @property
    def excess_before(self) -> float:
        """The same of the suspect."""
        return self.success_before - (self.success_reference or 0.0)


@dataclass(frozen=True)
class UnlearningDetails:
    """What unlearning did.

    Attributes:
        passes: how often the suspect was fine-tuned, each time against all triggers known by then.
        triggers: how many were unlearned in the last pass, variants included.
        reference_weight: weight in [0, 1] of the reference's parameters in the last start; 0: it was the suspect.
    """

    __pydantic_config__ = STRICT

    passes: int
    triggers: int
    reference_weight: float = 0.0


@dataclass(frozen=True)
class FineTuningDetails:
    """What a repair did that trains on the server's images and needs no trigger.

    Attributes:
        steps: of the optimizer, on the model's weights. images: how many of the server's images it trained on.
    """

    __pydantic_config__ = STRICT

    steps: int
    images: int


@dataclass(frozen=True)
class NeuronDetails:
    """What a repair did that prunes neurons by the server's own images.

    Attributes:
        pruned: numbers of the neurons or channels that were pruned, by layer; a layer that lost none is left out.
        neurons: how many there were to choose from, in all layers together.
    """

    __pydantic_config__ = STRICT

    pruned: dict[str, tuple[int, ...]]
    neurons: int


@dataclass(frozen=True)
class Stage:
    """The model after one stage of a repair by votes.

    Attributes:
        accuracy: clean accuracy in [0, 1], on the validation images or as the clients report it.
        zeroed: weights of the layer that the stage set to zero.
        delta: of an adjustment: weights further from the mean, in standard deviations, are extreme; None: none were.
    """

    __pydantic_config__ = STRICT

    name: StageName
    accuracy: float
    zeroed: int
    delta: float | None = None


@dataclass(frozen=True)
class VotedTrigger:
    """A trigger that a client found in the suspect.

    Attributes:
        client: its number.
        source_class, target_class: it sends images of the first to the second.
        rate: the fraction, in [0, 1], that it sends there, on the validation images; without those, as the client
            claims.
        pixels: (row, column) each; none if the trigger is a faint pattern over the whole image.
    """

    __pydantic_config__ = STRICT

    client: int
    source_class: int
    target_class: int
    rate: float
    pixels: tuple[tuple[int, int], ...]

    @property
    def telling(self) -> bool:
        """Whether at most 8 pixels send at least 80 % of the source class, the contrastive paper's limit (2.5).

        In honest models, rates of up to 66 % occurred (Fashion-MNIST, dresses to trousers); more pixels, or a faint
        pattern, can move any of their classes.
        """
        return self.rate >= TELLING_RATE and 0 < len(self.pixels) <= FEW_PIXELS


@dataclass(frozen=True)
class Move:
    """The triggers found for one source and target class.

    Attributes:
        best: a telling one, if there is any, with the highest rate. clients: how many clients found one.
    """

    best: VotedTrigger
    clients: int


@dataclass(frozen=True)
class PruningDetails:
    """What a repair by votes did. Accuracies are in [0, 1], on the validation images or as the clients report them.

    Attributes:
        layer, channels: the convolution and its number of output channels.
        vote: which vote was held. ballots: how many were valid; refused: how many others, by reason; missing: clients
            that sent none.
        sequence: all channels, the first to prune first.
        points: how many channels are pruned at each testing point, with the ``accuracies`` there.
        pruned: the channels that were pruned.
        stages: in their order.
        extreme: the extreme weights that the last adjustment set to zero, by their place in the layer's weight
            (output channel, input channel, row, column); ``values``: what they were. At most 1,000, the largest first.
        triggers: what clients found in the suspect, the highest rate first.
        device, versions: needed to run it again.
        num_validation: the server's images that accuracies and rates were measured on; 0: they are what clients say.
    """

    __pydantic_config__ = STRICT

    layer: str
    channels: int
    vote: Literal["ranking", "majority"]
    ballots: int
    refused: dict[str, int]
    missing: int
    sequence: tuple[int, ...]
    points: tuple[int, ...]
    accuracies: tuple[float, ...]
    pruned: tuple[int, ...]
    stages: tuple[Stage, ...]
    extreme: tuple[tuple[int, ...], ...] = ()
    values: tuple[float, ...] = ()
    triggers: tuple[VotedTrigger, ...] = ()
    device: str = "cpu"
    versions: dict[str, str] = field(default_factory=dict)
    num_validation: int = 0

    @property
    def moves(self) -> tuple[Move, ...]:
        """The triggers by source and target class: telling ones first, then the highest rate, then most clients."""
        groups: dict[tuple[int, int], list[VotedTrigger]] = {}
        for trigger in self.triggers:
            groups.setdefault((trigger.source_class, trigger.target_class), []).append(trigger)
        merged = [
            Move(max(group, key=lambda each: (each.telling, each.rate)), len({each.client for each in group}))
            for group in groups.values()
        ]
        return tuple(sorted(merged, key=lambda move: (-move.best.telling, -move.best.rate, -move.clients)))


Details: TypeAlias = UnlearningDetails | FineTuningDetails | NeuronDetails | PruningDetails


@dataclass(frozen=True)
class RepairReport:
    """How a repair went. Fractions are in [0, 1].

    Attributes:
        outcome: "repaired"; "unverified": the accuracy held and no found trigger works, but no scan of the result that
            could see such a backdoor confirmed that it is gone; "failed": the model lost too much accuracy, or is still
            backdoored; "not needed": the scan found no backdoor; "undecided": the scan was inconclusive, or recovered
            nothing that this method can use.
        reason: the outcome in a sentence or two.
        method: the name of its class. settings: its settings, the gate's and the seed, by name.
        accuracy_before, accuracy_after: clean accuracy of the suspect and of the repaired model, on the images that the
            gate judged by or, without any, as the clients report it; NaN if the model is of no use.
        accuracy_error: standard error of the fall, from the images on which the two models differ; 0 without
            images.
        accuracy_reference: clean accuracy of the reference on the same images; None if there is none or nothing
            was repaired, and where the reference may be backdoored as well: where the scan was inconclusive or didn't
            compare with it, or no trigger that clients found works in the suspect alone.
        num_judged: images that the gate judged by; 0: the clients reported accuracies.
        num_heldout: how many of these had no part in the repair.
        max_accuracy_drop: the largest fall that is allowed, beside one standard error.
        verdict_after: of the last new scan of the repaired model; None: there was none, so that nothing verified that
            the backdoor is gone.
        target_checks: the found triggers, before and after.
        details: what the method did; None if it did nothing.
        warnings: reasons not to trust the outcome.
    """

    __pydantic_config__ = STRICT

    outcome: Outcome
    reason: str
    method: str
    settings: dict[str, Any]
    seconds: float
    accuracy_before: float
    accuracy_after: float
    accuracy_error: float
    num_judged: int
    num_heldout: int
    max_accuracy_drop: float
    verdict_after: Verdict | None
    accuracy_reference: float | None = None
    target_checks: tuple[TargetCheck, ...] = ()
    details: Details | None = None
    warnings: tuple[str, ...] = ()

    def to_json(self) -> str:
        """The report as JSON text."""
        return to_json_text(_ADAPTER, self)

    @staticmethod
    def from_json(text: str | bytes) -> RepairReport:
        """Read what :meth:`to_json` wrote.

        Raises:
            DataError: the text is not such a report.
        """
        return from_json_text(_ADAPTER, text, "repair report")


_ADAPTER = TypeAdapter(RepairReport)
