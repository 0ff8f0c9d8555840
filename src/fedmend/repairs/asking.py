"""Asking clients, any of which may fail, hang or send anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from fedmend.detection import FoundTrigger
from fedmend.errors import DataError
from fedmend.federation.clients import Client
from fedmend.inference import evaluating, pixels_for
from fedmend.progress import Progress
from fedmend.pruning import (
    AccuracyVote,
    Ballots,
    ConvLayer,
    MajorityVote,
    RankingVote,
    bits,
    ranks,
)
from fedmend.repairs.base import Participants
from fedmend.repairs.trigger_pool import TriggerPool
from fedmend.seeds import derive_seed
from fedmend.untrusted import FLOATS, LATE, attempt, plain_tensor


class Vote(Protocol):
    """What collects replies, such as a :class:`~fedmend.pruning.RankingVote`."""

    def add(self, client: int, ballot: Any) -> str | None:
        """Count a valid reply; refuse any other."""

    def admit(self, client: int, flaw: str | None) -> str | None:
        """Register that there is no reply to count."""


@dataclass(frozen=True, eq=False)
class Asking:
    """The clients to ask, and how long to wait.

    Attributes:
        clients: numbered from 0 in their order, whatever number a client gives itself.
        timeout: seconds to wait for a client, which is then interrupted.
        progress: see ``fedmend.progress``.
        left_out: numbers of clients that are not asked.
    """

    clients: Sequence[Client]
    timeout: float
    progress: Progress
    left_out: frozenset[int] = frozenset()


Question: TypeAlias = Callable[[Client, int, nn.Module], Any]
"""Called with a client, its number and a model of its own; returns what the client replies."""


def ask(asking: Asking, stage: str, model: nn.Module, question: Question, vote: Vote) -> None:
    """Ask each client about a model and count the replies. One that fails or is late is not counted.

    Each client gets a copy of the model of its own.

    Args:
        asking: the clients and the timeout.
        stage: names the progress; "" reports none.
        model: left as found.
        question: a client's reply, given the client, its number and the copy.
        vote: counts the replies.
    """
    for number, client in enumerate(asking.clients):
        if number in asking.left_out:
            continue
        call = partial(question, client, number, deepcopy(model))
        reply, failure = attempt(call, asking.timeout)
        if failure is None:
            vote.add(number, reply)
        else:
            vote.admit(number, LATE if failure == LATE else "no reply: the client failed")
        if stage:
            asking.progress(stage, number + 1, len(asking.clients))


def ask_for_ranks(suspect: nn.Module, layer: ConvLayer, asking: Asking) -> RankingVote:
    """Hold a ranking vote on a layer's channels (4.1)."""
    vote = RankingVote(layer.convolution.out_channels, len(asking.clients))

    def ballot(client: Client, number: int, model: nn.Module) -> Tensor:
        return ranks(_activations(client, model, layer))

    ask(asking, "votes", suspect, ballot, vote)
    return vote


def ask_for_bits(
    suspect: nn.Module, layer: ConvLayer, rates: Sequence[float], asking: Asking
) -> MajorityVote:
    """Hold a majority vote on a layer's channels, at several pruning rates (4.2)."""
    vote = MajorityVote(layer.convolution.out_channels, len(asking.clients), len(rates))

    def ballot(client: Client, number: int, model: nn.Module) -> Tensor:
        return bits(_activations(client, model, layer), rates)

    ask(asking, "votes", suspect, ballot, vote)
    return vote


def ask_for_triggers(suspect: nn.Module, participants: Participants, asking: Asking) -> TriggerPool:
    """Collect the triggers that clients find in the suspect, with the rates that they claim."""
    seed, probe = participants.seed, torch.zeros(1, *participants.image_shape)
    with evaluating(suspect), torch.no_grad():
        classes = suspect(pixels_for(suspect, probe)).shape[1]
    pool = TriggerPool(participants.image_shape, classes, len(asking.clients))

    def triggers(client: Client, number: int, model: nn.Module) -> list[FoundTrigger]:
        return client.triggers(model, derive_seed(seed, "triggers", number))

    ask(asking, "triggers", suspect, triggers, pool)
    return pool


def _activations(client: Client, model: nn.Module, layer: ConvLayer) -> Tensor:
    sent = client.activations(model, layer.name)
    return _require(plain_tensor(sent, FLOATS, (layer.convolution.out_channels,)), "activations")


def _require(sent: Tensor | None, what: str) -> Tensor:
    if sent is None:
        raise DataError(f"a client sent {what} of the wrong length or kind")
    return sent


def refusals(ballots: Ballots, of: int, what: str) -> list[str]:
    """A warning of refused replies, or none."""
    if not ballots.refused:
        return []
    reasons = ", ".join(f"{count} for {reason}" for reason, count in ballots.refused.items())
    return [f"of {of} {what}, refused: {reasons}"]


class ClientReports:
    """Accuracies that clients report, combined by an :class:`~fedmend.pruning.AccuracyVote`.

    Each client's first accuracy is kept, and its later reports count relative to it: lying about one stage alone
    gains nothing.

    Attributes:
        warnings: refused reports.
    """

    def __init__(self, asking: Asking, image_shape: tuple[int, int, int]) -> None:
        self.probe = torch.zeros(1, *image_shape)
        self.warnings: list[str] = []
        self._asking = asking
        self._firsts: dict[int, Tensor] = {}

    def along(self, model: nn.Module, layer: str, sequence: Sequence[int], points: Sequence[int]) -> Tensor:
        """See :class:`~fedmend.repairs.accuracy_sources.AccuracySource`.

        Raises:
            DataError: there is no valid report.
        """
        firsts, clients = self._firsts, self._asking.clients
        vote = AccuracyVote(len(points) + bool(firsts), len(clients))
        unknown = frozenset(number for number in range(len(clients)) if firsts and number not in firsts)

        def report(client: Client, number: int, copy: nn.Module) -> Tensor:
            sent = client.accuracies(copy, layer, tuple(sequence), tuple(points))
            if not firsts:
                return sent
            return torch.cat(
                [firsts[number], _require(plain_tensor(sent, FLOATS, (len(points),)), "accuracies")]
            )

        stage = "accuracies" if len(points) > 1 else ""
        ask(replace(self._asking, left_out=unknown), stage, model, report, vote)
        self.warnings += refusals(vote, len(clients), "reports of accuracies")
        accuracies = vote.accuracies()
        if not firsts:
            self._firsts = vote.firsts()
        return accuracies[bool(firsts) :]
