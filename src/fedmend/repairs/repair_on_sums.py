"""The majority vote and group selection where the server sees only sums over groups of clients."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fedmend.errors import DataError
from fedmend.federation.client_fit import RoundPlan
from fedmend.federation.clients import Client
from fedmend.federation.secure_sums import SecureSums, moved
from fedmend.pruning import ConvLayer, MajorityVote, bits
from fedmend.repairs.group_selection import better_half, random_groups
from fedmend.repairs.trigger_pool import TriggerPool


def vote_on_sums(
    suspect: nn.Module, layer: ConvLayer, rates: Sequence[float], sums: SecureSums
) -> MajorityVote:
    """Hold a majority vote on a layer's channels (federated-pruning paper, 4.2) whose ballots the server doesn't see.

    Args:
        suspect: left as found.
        layer: whose channels are voted on.
        rates: fractions in (0, 1) of the channels to prune.
        sums: over all clients.

    Raises:
        DataError: a client failed, or the tally shows that one sent something other than bits.
    """

    def ballot(client: Client) -> Tensor:
        return bits(client.activations(suspect, layer.name), rates)

    return MajorityVote.from_tally(sums.of_integers(sums.everyone, ballot), len(sums.clients))


def best_groups_on_sums(
    model: nn.Module,
    plan: RoundPlan,
    sums: SecureSums,
    validation: tuple[Tensor, Tensor],
    pool: TriggerPool,
) -> nn.Module:
    """The next model by group selection (see ``group_selection``), from each group's sum alone.

    A server learns the sum of two or three clients: that hides less than a sum over all.

    Args:
        model: the round's global model; left as found.
        plan: of the round; its seed and number determine the groups.
        sums: over all clients.
        validation: the server's own images and labels.
        pool: the triggers to resist.

    Raises:
        DataError: a client failed.
    """
    if len(sums.clients) < 2:
        raise DataError(f"group selection needs two or more clients; got {len(sums.clients)}")
    means = (sums.mean_update(model, plan, group) for group in random_groups(len(sums.clients), plan))
    tried = ((mean, moved(model, mean)) for mean in means)
    return moved(model, torch.stack(better_half(tried, validation, pool)).mean(0))
