"""What a server asks clients about a model, and what they reply, as records of Flower's messages.

A question is a message of the type "train", which every app handles, since an app's mods see no message of a type that
it doesn't handle. It carries the model; a reply carries a ballot, accuracies or triggers, never images or activations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from torch import Tensor

from fedmend.detection import FoundTrigger
from fedmend.errors import DataError
from fedmend.integrations.flower.array_parsing import parsed
from fedmend.triggers import Addition, Patch

_QUESTION, _MODEL, _REPLY = "fedmend-question", "fedmend-model", "fedmend-reply"
_MOST_BYTES = 2**26
_NO_MASK = -1.0

Kind = Literal["ranks", "accuracies", "triggers"]
_KINDS: tuple[Kind, ...] = ("ranks", "accuracies", "triggers")


@dataclass(frozen=True)
class Question:
    """What a client is asked about a model.

    Attributes:
        kind: "ranks": rank a layer's channels by mean activation. "accuracies": the accuracy along a pruning sequence.
            "triggers": those that it finds.
        layer: the convolution's name.
        sequence, points: of the pruning sequence; see :func:`fedmend.pruning.accuracies_along`.
        seed: of the search for triggers.
    """

    kind: Kind
    layer: str = ""
    sequence: tuple[int, ...] = ()
    points: tuple[int, ...] = ()
    seed: int = 0

    def content(self, state: dict[str, Tensor]) -> RecordDict:
        """The message's content, with the model's weights."""
        config = ConfigRecord(
            {
                "kind": self.kind,
                "layer": self.layer,
                "sequence": list(self.sequence),
                "points": list(self.points),
                "seed": self.seed,
            }
        )
        return RecordDict({_QUESTION: config, _MODEL: ArrayRecord(dict(state))})

    @staticmethod
    def is_in(content: RecordDict) -> bool:
        """Whether a message holds a question."""
        return _QUESTION in content

    @staticmethod
    def of(content: RecordDict) -> tuple[Question, dict[str, Tensor]]:
        """The question in a message, and the weights of the model that it is about.

        Raises:
            DataError: the message holds no such question.
        """
        config, arrays = content.get(_QUESTION), content.get(_MODEL)
        if not isinstance(config, ConfigRecord) or not isinstance(arrays, ArrayRecord):
            raise DataError(
                "expected a question of fedmend with a model; the server's fedmend is another version"
            )
        kind, layer, seed = config.get("kind"), config.get("layer"), config.get("seed")
        sequence, points = config.get("sequence"), config.get("points")
        known = next((each for each in _KINDS if each == kind), None)
        if known is None or type(layer) is not str or type(seed) is not int:
            raise DataError(
                f"expected a question about {', '.join(_KINDS)}; the server's fedmend is another version"
            )
        question = Question(known, layer, _integers(sequence), _integers(points), seed)
        return question, dict(arrays.to_torch_state_dict())


def reply_content(values: Tensor | list[FoundTrigger]) -> RecordDict:
    """A client's reply: ranks or accuracies, or triggers."""
    if isinstance(values, Tensor):
        return RecordDict({_REPLY: ArrayRecord({"values": Array(values.numpy())})})
    classes = [[found.source_class, found.target_class] for found in values]
    parts = [_parts(found.trigger) for found in values]
    arrays = {
        "masks": torch.stack([mask for mask, _ in parts]) if parts else torch.zeros(0),
        "patterns": torch.stack([pattern for _, pattern in parts]) if parts else torch.zeros(0),
        "classes": torch.tensor(classes, dtype=torch.int64),
        "rates": torch.tensor([found.rate for found in values], dtype=torch.float64),
    }
    return RecordDict(
        {_REPLY: ArrayRecord({name: Array(value.cpu().numpy()) for name, value in arrays.items()})}
    )


def values_in(content: RecordDict) -> Tensor:
    """The numbers in a reply, of any shape and type: not to be trusted.

    Raises:
        DataError: there are none.
    """
    return _tensor(content, "values")


def triggers_in(content: RecordDict, most: int) -> list[FoundTrigger]:
    """The triggers in a reply: not to be trusted, but as many of each part and at most ``most`` + 1.

    Raises:
        DataError: there are none, or parts don't match.
    """
    parts = {name: _tensor(content, name) for name in ("masks", "patterns", "classes", "rates")}
    counts = {len(part) if part.ndim else 0 for part in parts.values()}
    if counts == {0}:
        return []
    if len(counts) != 1 or parts["classes"].shape[1:] != (2,) or parts["rates"].ndim != 1:
        raise DataError("a client's triggers lack parts")
    return [
        FoundTrigger(
            _trigger(parts["masks"][index].clone(), parts["patterns"][index].clone()),
            int(parts["classes"][index, 0]),
            int(parts["classes"][index, 1]),
            float(parts["rates"][index]),
        )
        for index in range(min(counts.pop(), most + 1))
    ]


def _parts(trigger: Patch | Addition) -> tuple[Tensor, Tensor]:
    """A patch's mask and pattern; a faint pattern has no mask: it is -1 everywhere."""
    if isinstance(trigger, Addition):
        return torch.full_like(trigger.delta[:1], _NO_MASK), trigger.delta
    return trigger.mask, trigger.pattern


def _trigger(mask: Tensor, pattern: Tensor) -> Patch | Addition:
    return Addition(pattern) if bool((mask == _NO_MASK).all()) else Patch(mask, pattern)


def _tensor(content: RecordDict, name: str) -> Tensor:
    record = content.get(_REPLY)
    values = parsed(record.get(name), _MOST_BYTES) if isinstance(record, ArrayRecord) else None
    if values is None:
        raise DataError(f"a client's reply holds no {name}")
    return torch.from_numpy(values)


def _integers(values: object) -> tuple[int, ...]:
    if not isinstance(values, list) or not all(type(value) is int for value in values):
        raise DataError(
            "expected a question with lists of whole numbers; the server's fedmend is another version"
        )
    return tuple(values)
