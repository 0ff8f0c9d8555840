"""Partitions a training set among clients: every image goes to exactly one."""

from __future__ import annotations

import heapq
import math

import numpy as np
import torch
from torch import Tensor

from fedmend.errors import DataError

_LARGEST_ALPHA = 1e6


def iid(labels: Tensor, num_clients: int, generator: torch.Generator) -> list[Tensor]:
    """Shuffle the images and split them evenly; client sizes differ by at most one.

    Args:
        labels: integers >= 0, (N,).
        num_clients: in [1, N].
        generator: on the CPU; the same state gives the same split.

    Returns:
        One int64 tensor of indices into ``labels`` per client, ascending, never empty.

    Raises:
        DataError: the labels or the number of clients can't be used.
    """
    labels = _checked(labels, num_clients)
    shuffled = torch.randperm(len(labels), generator=generator)
    return [part.sort().values for part in shuffled.tensor_split(num_clients)]


def k_label(
    labels: Tensor, num_clients: int, labels_per_client: int, generator: torch.Generator
) -> list[Tensor]:
    """Give each client images of exactly K random labels (federated pruning paper, 5.1).

    Every label has at least one holder. Its images are split equally among its holders, whose number is roughly
    proportional to the number of images. So clients have roughly equal sizes and roughly equal numbers of images of
    each of their labels, as far as the labels' frequencies allow. The paper doesn't specify how it draws the labels.

    Args:
        labels: integers >= 0, (N,); labels that don't occur are ignored.
        num_clients: in [1, N].
        labels_per_client: K, in [1, number of labels that occur].
        generator: on the CPU; the same state gives the same split.

    Returns:
        One int64 tensor of indices into ``labels`` per client, ascending.

    Raises:
        DataError: the labels can't be used, ``num_clients * labels_per_client`` is less than the number of
            labels, or there are too few images for each client to have one of each of its K labels.
    """
    labels = _checked(labels, num_clients)
    present, counts = np.unique(labels.numpy(), return_counts=True)
    _check_k(labels_per_client, num_clients, len(present))
    capacity = np.minimum(counts, num_clients)
    if int(capacity.sum()) < num_clients * labels_per_client:
        raise DataError(
            f"too few images for {num_clients} clients with {labels_per_client} labels each: that needs "
            f"{num_clients * labels_per_client} parts of labels, and the images allow {int(capacity.sum())}; "
            "use fewer clients or labels per client"
        )
    holders = _holders(counts.tolist(), capacity.tolist(), num_clients * labels_per_client, generator)
    held, sizes = [0] * num_clients, [0] * num_clients
    parts: list[list[Tensor]] = [[] for _ in range(num_clients)]
    for position in torch.randperm(len(present), generator=generator).tolist():
        # Clients with the fewest labels so far come first, so that all end with exactly K.
        luck = torch.randperm(num_clients, generator=generator).tolist()
        ranked = sorted(luck, key=lambda client: (held[client], sizes[client]))
        number = holders[position]
        members = (labels == int(present[position])).nonzero().flatten()
        members = members[torch.randperm(len(members), generator=generator)]
        for client, piece in zip(ranked[:number], members.tensor_split(number), strict=True):
            parts[client].append(piece)
            held[client] += 1
            sizes[client] += len(piece)
    return [torch.cat(pieces).sort().values for pieces in parts]


def dirichlet(labels: Tensor, num_clients: int, alpha: float, generator: torch.Generator) -> list[Tensor]:
    """Split each class in fractions drawn from a symmetric Dirichlet distribution (Hsu et al., 2019).

    A client that would get no image gets one from the client with the most.

    Args:
        labels: integers >= 0, (N,).
        num_clients: in [1, N].
        alpha: in (0, 1,000,000]; small values give each client few classes, large ones approach :func:`iid`.
        generator: on the CPU; the same state gives the same split.

    Returns:
        One int64 tensor of indices into ``labels`` per client, ascending, never empty.

    Raises:
        DataError: the labels, the number of clients or ``alpha`` can't be used.
    """
    labels = _checked(labels, num_clients)
    number = isinstance(alpha, int | float) and not isinstance(alpha, bool) and math.isfinite(alpha)
    if not number or not 0 < alpha <= _LARGEST_ALPHA:
        raise DataError(f"alpha must be a number in (0, 1000000]; got {alpha!r}; 0.5 is a common choice")
    # torch has no public Dirichlet sampler that takes a generator; numpy's is seeded from ours.
    sampler = np.random.default_rng(int(torch.randint(2**63 - 1, (1,), generator=generator)))
    parts: list[list[Tensor]] = [[] for _ in range(num_clients)]
    for label in np.unique(labels.numpy()).tolist():
        members = (labels == label).nonzero().flatten()
        members = members[torch.randperm(len(members), generator=generator)]
        bounds = np.cumsum(sampler.dirichlet(np.full(num_clients, float(alpha))))[:-1]
        cuts = np.rint(bounds.clip(0, 1) * len(members)).astype(int).tolist()
        for client, piece in enumerate(members.tensor_split(cuts)):
            parts[client].append(piece)
    return [part.sort().values for part in _fill_empty([torch.cat(pieces) for pieces in parts])]


def _fill_empty(parts: list[Tensor]) -> list[Tensor]:
    """Move one image from the largest part to each empty one; there are at least as many images as parts."""
    for client, part in enumerate(parts):
        if len(part) == 0:
            richest = max(range(len(parts)), key=lambda other: len(parts[other]))
            parts[client], parts[richest] = parts[richest][:1], parts[richest][1:]
    return parts


def _holders(counts: list[int], capacity: list[int], places: int, generator: torch.Generator) -> list[int]:
    """The number of holders of each label: one, then repeatedly one more for the label with most images per holder."""
    holders = [1] * len(counts)
    luck = torch.randperm(len(counts), generator=generator).tolist()
    crowded = [
        (-float(counts[label]), luck[label], label) for label in range(len(counts)) if capacity[label] > 1
    ]
    heapq.heapify(crowded)
    for _ in range(places - len(counts)):
        _, tie, label = heapq.heappop(crowded)
        holders[label] += 1
        if holders[label] < capacity[label]:
            heapq.heappush(crowded, (-counts[label] / holders[label], tie, label))
    return holders


def _check_k(labels_per_client: int, num_clients: int, num_labels: int) -> None:
    if isinstance(labels_per_client, bool) or not isinstance(labels_per_client, int):
        raise DataError(f"labels_per_client must be a whole number; got {labels_per_client!r}")
    if not 1 <= labels_per_client <= num_labels:
        raise DataError(
            f"labels_per_client must be in [1, {num_labels}], the number of labels that occur; got {labels_per_client}"
        )
    if num_clients * labels_per_client < num_labels:
        needed = math.ceil(num_labels / num_clients)
        raise DataError(
            f"{num_clients} clients with {labels_per_client} labels each can't hold all {num_labels} labels; "
            f"use at least {needed} labels per client or {math.ceil(num_labels / labels_per_client)} clients"
        )


def _checked(labels: Tensor, num_clients: int) -> Tensor:
    """The labels on the CPU, after checking them and the number of clients."""
    integers = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
    if not isinstance(labels, Tensor) or labels.ndim != 1 or labels.dtype not in integers:
        came = (
            f"{labels.dtype} of shape {tuple(labels.shape)}"
            if isinstance(labels, Tensor)
            else type(labels).__name__
        )
        raise DataError(f"labels must be an integer tensor of shape (N,); got {came}")
    if len(labels) == 0 or int(labels.min()) < 0:
        came = f"labels from {int(labels.min())}" if len(labels) else "no labels"
        raise DataError(f"labels must be one or more integers >= 0; got {came}; drop unlabelled images (-1)")
    if (
        isinstance(num_clients, bool)
        or not isinstance(num_clients, int)
        or not 1 <= num_clients <= len(labels)
    ):
        raise DataError(
            f"num_clients must be a whole number in [1, {len(labels)}], so that each has an image; "
            f"got {num_clients!r}"
        )
    return labels.cpu()
