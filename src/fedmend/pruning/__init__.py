"""Federated pruning: the clients vote on which channels are dormant (federated-pruning paper)."""

from fedmend.pruning.ballots import Ballots, is_plain
from fedmend.pruning.dormancy import mean_activations
from fedmend.pruning.extreme_weights import adjusted, choose_delta, extreme_weights
from fedmend.pruning.layers import Point, locate
from fedmend.pruning.mask import Zeros, channel_zeros, held, set_to_zero, union
from fedmend.pruning.removal import remove_channels
from fedmend.pruning.sequence import AccuracyVote, StopRule, accuracies_along, how_far, points_along
from fedmend.pruning.votes import MajorityVote, RankingVote, Rule, bits, pruning_sequence, ranks

__all__ = [
    "AccuracyVote",
    "Ballots",
    "MajorityVote",
    "Point",
    "RankingVote",
    "Rule",
    "StopRule",
    "Zeros",
    "accuracies_along",
    "adjusted",
    "bits",
    "channel_zeros",
    "choose_delta",
    "extreme_weights",
    "held",
    "how_far",
    "is_plain",
    "locate",
    "mean_activations",
    "points_along",
    "pruning_sequence",
    "ranks",
    "remove_channels",
    "set_to_zero",
    "union",
]
