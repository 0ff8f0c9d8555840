"""Federated pruning: the clients vote on which channels are dormant (federated-pruning paper)."""

from fedmend.pruning.dormancy import mean_activations
from fedmend.pruning.layers import Point, locate
from fedmend.pruning.votes import MajorityVote, RankingVote, bits, pruning_sequence, ranks
from fedmend.pruning.zeros import Zeros, channel_zeros, held, set_to_zero, union

__all__ = [
    "MajorityVote",
    "Point",
    "RankingVote",
    "Zeros",
    "bits",
    "channel_zeros",
    "held",
    "locate",
    "mean_activations",
    "pruning_sequence",
    "ranks",
    "set_to_zero",
    "union",
]
