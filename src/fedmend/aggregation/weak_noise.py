"""Gaussian noise on an aggregated update, too weak to protect privacy and strong enough to blur a backdoor."""

from __future__ import annotations

import torch
from torch import Tensor

from fedmend.aggregation.base import State, Updates
from fedmend.seeds import generator


def with_noise(
    delta: Tensor, updates: Updates, deviation: float, seed: int, state: State
) -> tuple[Tensor, State]:
    """A delta (P,) with noise on its parameters, another each round.

    Args:
        delta: finite.
        updates: of the round; buffers get no noise, since a variance could become negative.
        deviation: the noise's standard deviation; at 0 nothing changes.
        seed: of the noise. A server keeps it secret: whoever knows it can subtract the noise.
        state: its ``noise_round`` counts the rounds.

    Returns:
        The delta, and the state for the next round.
    """
    if deviation == 0:
        return delta, state
    rounds = int(state.get("noise_round", torch.zeros(())))
    drawn = torch.randn(len(delta), generator=generator(seed, "aggregation noise", rounds)).to(delta)
    parameters = updates.parameters.to(delta.device)
    return delta + drawn * deviation * parameters, {**state, "noise_round": torch.tensor(rounds + 1)}
