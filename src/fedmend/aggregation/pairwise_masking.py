"""Pairwise masking: the part of secure aggregation by which a server learns the sum of vectors and no vector.

Bonawitz et al., *Practical Secure Aggregation for Privacy-Preserving Machine Learning* (2017), section 4.0.1: each pair
of clients shares a seed and expands it to a mask, which one of them adds and the other subtracts, modulo 2^40. It is a
model of secure aggregation: one seed stands for the keys that pairs of clients agree on, and the masks of a client that
drops out can't be recovered, so that its sum is lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fedmend.errors import ConfigError, DataError
from fedmend.seeds import generator

MODULUS = 2**40
LEVELS = 2**24
"""Steps between the smallest and the largest number of a quantised vector."""
MOST_CLIENTS = MODULUS // LEVELS - 1
"""In one sum; with more, the sum of quantised vectors could exceed the modulus."""


def masked(values: Tensor, me: int, group: Sequence[int], seed: int) -> Tensor:
    """What a client sends: its values plus its masks, uniform in [0, 2^40) for whoever doesn't know the seed.

    Args:
        values: int64, of any shape, in [0, 2^24].
        me: the client's number, one of the group's.
        group: of all clients in the sum.
        seed: what the clients share and the server doesn't know; another for each sum.
    """
    total = values.clone()
    for other in group:
        if other != me:
            low, high = sorted((me, other))
            mask = torch.randint(
                MODULUS, values.shape, generator=generator(seed, "mask", low, high), dtype=torch.int64
            )
            total += mask if me == low else -mask
    return total % MODULUS


def total(sent: Mapping[int, Tensor], group: Sequence[int]) -> Tensor:
    """The sum of the values, int64, in which the masks have cancelled.

    Args:
        sent: by client, made by :func:`masked`.
        group: of all clients whose masks are in it.

    Raises:
        ConfigError: the group has fewer than two clients, or too many, or one twice.
        DataError: a client is missing, or their shapes differ.
    """
    if not 2 <= len(group) <= MOST_CLIENTS or len(set(group)) != len(group):
        raise ConfigError(
            f"expected 2 to {MOST_CLIENTS:,} different clients, since the sum of one is its own; got {len(group)}"
        )
    missing = sorted(set(group) - set(sent))
    if missing:
        raise DataError(
            f"client {missing[0]} dropped out, and its masks hide the sum of the others; ask the group again without it"
        )
    shapes = sorted({tuple(sent[number].shape) for number in group})
    if len(shapes) > 1:
        raise DataError(
            f"the clients of a sum sent different shapes, {' and '.join(map(str, shapes))}; ask smaller groups"
        )
    return torch.stack([sent[number] for number in group]).sum(0) % MODULUS


def quantised(vector: Tensor, clip: float) -> Tensor:
    """A float vector as integers in [0, 2^24]; what is outside [-clip, clip] is cut off there.

    Raises:
        DataError: a value is NaN.
    """
    if bool(vector.isnan().any()):
        raise DataError("a vector to be summed holds NaN")
    return ((vector.double().clamp(-clip, clip) + clip) * (LEVELS / (2 * clip))).round().long()


def dequantised(summed: Tensor, clients: int, clip: float) -> Tensor:
    """The float64 sum of the vectors whose quantised sum this is, each off by at most ``clip / 2^24`` per client."""
    return summed.double() * (2 * clip / LEVELS) - clients * clip
