"""Asking clients, any of which may fail, time out or send anything."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

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
        clients: numbered from 0 in their order.
        timeout: seconds to wait for a client; a later reply is not counted.
        progress: see ``fedmend.progress``.
    """

    clients: Sequence[Client]
    timeout: float
    progress: Progress


def ask(asking: Asking, stage: str, question: Callable[[Client], Any], vote: Vote) -> None:
    """Ask each client and count the replies. A client that fails or times out is not counted.

    Args:
        asking: the clients and the timeout.
        stage: names the progress; "" reports none.
        question: a client's reply.
        vote: counts the replies.
    """
    for number, client in enumerate(asking.clients, 1):
        started = time.perf_counter()
        try:
            reply = question(client)
        except Exception:  # clients are untrusted and may fail in any way
            vote.admit(client.client_id, "no reply: the client failed")
        else:
            if time.perf_counter() - started > asking.timeout:
                vote.admit(client.client_id, "no reply in time")
            else:
                vote.add(client.client_id, reply)
        if stage:
            asking.progress(stage, number, len(asking.clients))


def ask_for_ranks(suspect: nn.Module, layer: ConvLayer, asking: Asking) -> RankingVote:
    """Hold a ranking vote on a layer's channels (4.1)."""
    vote = RankingVote(layer.convolution.out_channels, len(asking.clients))
    ask(asking, "votes", lambda client: ranks(client.activations(suspect, layer.name)), vote)
    return vote


def ask_for_bits(
    suspect: nn.Module, layer: ConvLayer, rates: Sequence[float], asking: Asking
) -> MajorityVote:
    """Hold a majority vote on a layer's channels, at several pruning rates (4.2)."""
    vote = MajorityVote(layer.convolution.out_channels, len(asking.clients), len(rates))
    ask(asking, "votes", lambda client: bits(client.activations(suspect, layer.name), rates), vote)
    return vote


def ask_for_triggers(suspect: nn.Module, participants: Participants, asking: Asking) -> TriggerPool:
    """Collect the triggers that clients find in the suspect, with the rates that they claim."""
    seed, probe = participants.seed, torch.zeros(1, *participants.image_shape)
    with evaluating(suspect), torch.no_grad():
        classes = suspect(pixels_for(suspect, probe)).shape[1]
    pool = TriggerPool(participants.image_shape, classes, len(asking.clients))
    ask(
        asking,
        "triggers",
        lambda client: client.triggers(suspect, derive_seed(seed, "triggers", client.client_id)),
        pool,
    )
    return pool


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
        known = [client for client in clients if not firsts or client.client_id in firsts]

        def report(client: Client) -> Tensor:
            reported = client.accuracies(model, layer, sequence, points)
            return torch.cat([firsts[client.client_id], reported]) if firsts else reported

        ask(replace(self._asking, clients=known), "accuracies" if len(points) > 1 else "", report, vote)
        self.warnings += refusals(vote, len(clients), "reports of accuracies")
        accuracies = vote.accuracies()
        if not firsts:
            self._firsts = vote.firsts()
        return accuracies[bool(firsts) :]
