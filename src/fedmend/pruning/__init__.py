"""Federated pruning: the clients vote on which channels are dormant (federated-pruning paper)."""

from fedmend.pruning.dormancy import mean_activations
from fedmend.pruning.votes import MajorityVote, RankingVote, bits, pruning_sequence, ranks

__all__ = ["MajorityVote", "RankingVote", "bits", "mean_activations", "pruning_sequence", "ranks"]
