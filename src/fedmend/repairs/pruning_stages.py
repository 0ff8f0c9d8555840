"""Repair where the server holds no client data: prune by vote, fine-tune, adjust extreme weights."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import Tensor, nn

from fedmend.errors import ConfigError, DataError
from fedmend.inference import device_of
from fedmend.progress import Progress, silent
from fedmend.pruning import (
    MajorityVote,
    PruningMask,
    RankingVote,
    Rule,
    StopRule,
    accuracies_along,
    adjusted,
    channel_mask,
    choose_delta,
    how_far,
    join_masks,
    locate,
    points_along,
    pruning_sequence,
    set_to_zero,
)
from fedmend.version_info import versions

Along = Callable[[nn.Module, str, Sequence[int], Sequence[int]], Tensor]
"""Model, layer, pruning sequence and testing points to the accuracy at each point, (points,)."""
FineTune = Callable[[nn.Module, PruningMask], None]
"""Trains the pruned model in place, with these parameters held at zero."""
Watch = Callable[[str, nn.Module], None]
"""Shown the model after each stage; what it makes of it is no part of the defence."""


TELLING_RATE = 0.8


def unwatched(_stage: str, _model: nn.Module) -> None:
    """Watch nothing."""


@dataclass(frozen=True)
class Pruning:
    """How to go from votes to a repaired model (federated-pruning paper, 4).

    Attributes:
        rule: how a ranking vote is added up; the paper's is "mean".
        stop: what counts as a drop of the accuracy; the paper's is "step", between two testing points.
        max_drop: the largest drop while pruning, a share; the paper's is 1 point.
        delta: extreme weights lie beyond so many standard deviations; the paper's is 3. "validated": the lowest that
            the accuracy allows. None: weights stay as they are.
        live_only: leave the weights that are zero out of mean and standard deviation.
        adjust_first: adjust extreme weights before the fine-tuning as well, and hold them at zero in it.

    Raises:
        ConfigError: a setting is out of range.
    """

    rule: Rule = "median"
    stop: StopRule = "total"
    max_drop: float = 0.01
    delta: float | Literal["validated"] | None = 3.0
    live_only: bool = True
    adjust_first: bool = False

    def __post_init__(self) -> None:
        if self.rule not in ("mean", "median", "trimmed") or self.stop not in ("step", "total"):
            raise ConfigError(
                f'rule must be "mean", "median" or "trimmed", stop "step" or "total"; got {self}'
            )
        named = self.delta is None or self.delta == "validated"
        if not 0 <= self.max_drop <= 1 or not (named or 0 < float(self.delta) < float("inf")):  # type: ignore[arg-type]
            raise ConfigError(
                f'max_drop must be in [0, 1] and delta above 0, "validated" or None; got {self}'
            )


PAPER = Pruning(rule="mean", stop="step")
"""The paper's own choices."""


@dataclass(frozen=True)
class Stage:
    """What one stage left: ``zeroed`` weights it set to zero, ``accuracy`` as the defender knows it."""

    name: Literal["suspect", "pruned", "adjusted", "fine-tuned", "adjusted again"]
    accuracy: float
    zeroed: int
    delta: float | None = None


@dataclass(frozen=True)
class VotedTrigger:
    """A trigger that a client found in the suspect.

    ``rate`` is the share of the images of ``source_class`` that it moves to ``target_class``, on the server's images or
    else as the client says; ``pixels`` are (row, column).
    """

    client: int
    source_class: int
    target_class: int
    rate: float
    pixels: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Move:
    """What clients found that moves one class to another: ``best`` by its rate, of so many ``clients``' triggers."""

    best: VotedTrigger
    clients: int

    @property
    def telling(self) -> bool:
        """Whether it moves 80 % of the class or more, the contrastive paper's limit for a trigger (2.5).

        Honest models were seen to reach 66 % (Fashion-MNIST, dresses to trousers).
        """
        return self.best.rate >= TELLING_RATE


@dataclass(frozen=True)
class PruneReport:
    """How a repair by pruning went. Accuracies are shares in [0, 1], as the server or the clients measured them.

    No scan is behind it: neither whether the model was backdoored nor whether it still is can be said from it.

    Attributes:
        outcome: "pruned", or "failed" where the accuracy fell by more than was allowed.
        layer, channels: the convolution and its number of channels.
        vote: "ranking" or "majority". ballots: how many counted; refused: of the others, how many for each reason;
            missing: clients of whom nothing came.
        sequence: all channels, the first to prune first. points: how many are pruned at each testing point, with
            the ``accuracies`` there. pruned: the channels that were.
        stages: in their order.
        validation_images: on how many images the server measured accuracies; 0 where the clients reported them.
        extreme: the extreme weights that the last stage set to zero, by their place in the layer's weight (output
            channel, input channel, row, column); ``values``: what they were. At most 1,000, the largest first.
        triggers: what clients found in the suspect, the highest rate first.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    outcome: Literal["pruned", "failed"]
    reason: str
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
    extreme: tuple[tuple[int, ...], ...]
    values: tuple[float, ...]
    settings: dict[str, Any]
    max_accuracy_drop: float
    seconds: float
    validation_images: int = 0
    device: str = "cpu"
    versions: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = field(default=())
    triggers: tuple[VotedTrigger, ...] = field(default=())

    @property
    def moves(self) -> tuple[Move, ...]:
        """The triggers, those of the same two classes as one, the highest rate first and then the most clients."""
        groups: dict[tuple[int, int], list[VotedTrigger]] = {}
        for trigger in self.triggers:
            groups.setdefault((trigger.source_class, trigger.target_class), []).append(trigger)
        merged = [
            Move(max(group, key=lambda each: each.rate), len({each.client for each in group}))
            for group in groups.values()
        ]
        return tuple(sorted(merged, key=lambda move: (-move.best.rate, -move.clients)))

    def to_json(self) -> str:
        """The report as JSON text."""
        return _ADAPTER.dump_json(self, indent=2).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> PruneReport:
        """Undo :meth:`to_json`.

        Raises:
            DataError: the text isn't such a report.
        """
        try:
            return _ADAPTER.validate_json(text)
        except ValidationError as error:
            raise DataError(f"not a pruning report: {error.errors()[0]['msg']}") from error


_ADAPTER = TypeAdapter(PruneReport)


def prune(
    model: nn.Module,
    votes: RankingVote | MajorityVote,
    *,
    images: Tensor,
    labels: Tensor | None = None,
    along: Along | None = None,
    fine_tune: FineTune | None = None,
    layer: str | None = None,
    settings: Pruning = Pruning(),
    max_accuracy_drop: float = 0.05,
    progress: Progress = silent,
    watch: Watch = unwatched,
) -> tuple[nn.Module, PruneReport]:
    """Prune the channels that clients voted dormant, fine-tune, and adjust extreme weights.

    Args:
        model: the suspect; left as found.
        votes: with the clients' ballots. Of a majority vote's rates the one counts at which most can be pruned.
        images: the server's validation images with their ``labels``, uint8 or float in [0, 1], (N, C, H, W). Without
            labels one image of the right shape, of zeros for example, that finds the layer.
        along: where the server has no images, asks the clients for their accuracies (see
            :class:`fedmend.pruning.AccuracyVote`).
        fine_tune: rounds of the federation on the pruned model (4.4); none by default.
        layer: the convolution that was voted on; by default the one that runs last.
        max_accuracy_drop: a fall beyond this, as a share, makes the outcome "failed".
        progress: called as :func:`fedmend.pruning.accuracies_along` does.
        watch: called with each stage's name and model.

    Returns:
        The model after the last stage, also where the outcome is "failed"; and the report.

    Raises:
        ConfigError: the vote is on another number of channels, or neither labels nor ``along`` are given.
        DataError: no ballot counts. ModelError: there is no such convolution.
    """
    started = time.perf_counter()
    if not 0 <= max_accuracy_drop <= 1:
        raise ConfigError(f"max_accuracy_drop must be in [0, 1]; got {max_accuracy_drop}")
    if images.ndim != 4 or len(images) == 0:
        raise DataError(f"prune needs images (N, C, H, W), N at least 1; got {tuple(images.shape)}")
    if (labels is None) == (along is None):
        raise ConfigError(
            "prune needs either labels for the images or along=, a way to ask clients for accuracies"
        )
    point = locate(model, images, layer)
    width = point.convolution.out_channels
    if votes.channels != width:
        raise ConfigError(f"the vote is on {votes.channels} channels, but {point.name} has {width}")
    measure = along or _server_side(images, labels, progress)
    points = points_along(width)

    def along_sequence(scores: Tensor) -> tuple[int, list[int], Tensor]:
        sequence: list[int] = pruning_sequence(scores).tolist()
        accuracies = measure(model, point.name, sequence, points)
        return points[how_far(accuracies, settings.max_drop, settings.stop)], sequence, accuracies

    if isinstance(votes, RankingVote):
        voted = [votes.scores(settings.rule)]
    else:
        voted = [votes.scores(rate) for rate in range(len(votes.tally))]
    count, sequence, accuracies = max(map(along_sequence, voted), key=lambda found: found[0])

    current = deepcopy(model)
    zeros = channel_mask(point, sequence[:count])
    set_to_zero(current, zeros)

    def accuracy_of(candidate: nn.Module) -> float:
        return float(measure(candidate, point.name, sequence, [0])[0])

    stages = [
        Stage("suspect", float(accuracies[0]), 0),
        Stage("pruned", float(accuracies[points.index(count)]), int(zeros[f"{point.name}.weight"].sum())),
    ]

    watch("suspect", model)
    watch("pruned", current)
    found: list[tuple[tuple[int, ...], float]] = []

    def adjust(name: Literal["adjusted", "adjusted again"]) -> None:
        nonlocal current, zeros
        if settings.delta is None:
            return
        delta = settings.delta
        if isinstance(delta, str):
            delta = choose_delta(current, point.name, accuracy_of, live_only=settings.live_only)
        weight = current.get_parameter(f"{point.name}.weight").detach()
        current, extreme = adjusted(current, point.name, delta, live_only=settings.live_only)
        zeros = join_masks(zeros, extreme)
        places = ((weight != 0) & extreme[f"{point.name}.weight"]).nonzero().tolist()
        found[:] = sorted(
            ((tuple(place), float(weight[tuple(place)])) for place in places), key=lambda one: -abs(one[1])
        )
        stages.append(Stage(name, accuracy_of(current), len(places), delta if math.isfinite(delta) else None))
        watch(name, current)

    if fine_tune is None or settings.adjust_first:
        adjust("adjusted")
    if fine_tune is not None:
        fine_tune(current, zeros)
        stages.append(Stage("fine-tuned", accuracy_of(current), 0))
        watch("fine-tuned", current)
        adjust("adjusted again")
    fell = stages[0].accuracy - stages[-1].accuracy
    failed = fell > max_accuracy_drop
    reason = (
        f"{count} of {width} channels pruned; clean accuracy {stages[0].accuracy:.1%} before, "
        f"{stages[-1].accuracy:.1%} after{f', more than {100 * max_accuracy_drop:g} points lower' if failed else ''}."
    )
    return current, PruneReport(
        outcome="failed" if failed else "pruned",
        reason=reason,
        layer=point.name,
        channels=width,
        vote="ranking" if isinstance(votes, RankingVote) else "majority",
        ballots=votes.counted,
        refused=dict(votes.refused),
        missing=votes.missing,
        sequence=tuple(sequence),
        points=tuple(points),
        accuracies=tuple(accuracies.tolist()),
        pruned=tuple(sequence[:count]),
        stages=tuple(stages),
        extreme=tuple(place for place, _ in found[:1000]),
        values=tuple(value for _, value in found[:1000]),
        settings=asdict(settings),
        max_accuracy_drop=max_accuracy_drop,
        seconds=time.perf_counter() - started,
        validation_images=0 if labels is None else len(labels),
        device=str(device_of(model)),
        versions=versions(),
        warnings=() if labels is None else _doubts(labels, stages[0].accuracy, settings.max_drop),
    )


def _doubts(labels: Tensor, accuracy: float, max_drop: float) -> tuple[str, ...]:
    """What makes the accuracies on these validation images a poor guide."""
    doubts = []
    if len(labels) * max_drop < 2:
        doubts.append(
            f"with {len(labels)} validation images, two of them wrong are more than the {100 * max_drop:g} points that "
            "pruning may cost; take more"
        )
    guess = float(labels.bincount().max()) / len(labels)
    if accuracy <= guess:
        doubts.append(
            f"the suspect is right on {accuracy:.1%} of the validation images, no more than their most frequent "
            f"class would be as every answer ({guess:.1%}); are they of the kind that it was trained on?"
        )
    return tuple(doubts)


def _server_side(images: Tensor, labels: Tensor | None, progress: Progress) -> Along:
    assert labels is not None

    def measure(model: nn.Module, layer: str, sequence: Sequence[int], points: Sequence[int]) -> Tensor:
        return accuracies_along(model, sequence, points, images, labels, layer=layer, progress=progress)

    return measure
