"""Federated pruning: the clients vote on which channels are dormant (federated-pruning paper)."""

from fedmend.pruning.accuracy_vote import AccuracyVote
from fedmend.pruning.activations import mean_activations
from fedmend.pruning.ballots import Ballots
from fedmend.pruning.extreme_weights import adjusted, choose_delta, is_extreme
from fedmend.pruning.layers import ConvLayer, locate
from fedmend.pruning.majority_vote import MajorityVote, bits
from fedmend.pruning.pruning_mask import PruningMask, channel_mask, held, join_masks, set_to_zero
from fedmend.pruning.ranking_vote import RankingVote, Rule, ranks
from fedmend.pruning.removal import remove_channels
from fedmend.pruning.sequence import StopRule, accuracies_along, how_far, points_along, pruning_sequence

__all__ = [
    "AccuracyVote",
    "Ballots",
    "ConvLayer",
    "MajorityVote",
    "PruningMask",
    "RankingVote",
    "Rule",
    "StopRule",
    "accuracies_along",
    "adjusted",
    "bits",
    "channel_mask",
    "choose_delta",
    "held",
    "how_far",
    "is_extreme",
    "join_masks",
    "locate",
    "mean_activations",
    "points_along",
    "pruning_sequence",
    "ranks",
    "remove_channels",
    "set_to_zero",
]
