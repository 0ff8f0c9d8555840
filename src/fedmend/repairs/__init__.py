"""Repairs: taking a backdoor out of a model, checked by one gate."""

from fedmend.repairs.federated_pruning import PAPER_RECIPE, FederatedPruning, last_model
from fedmend.repairs.repairing import RepairReport, repair
from fedmend.repairs.unlearning import Unlearning, unlearn
from fedmend.repairs.vote_pruning import PruneReport, Pruning, prune

__all__ = [
    "PAPER_RECIPE",
    "FederatedPruning",
    "PruneReport",
    "Pruning",
    "RepairReport",
    "Unlearning",
    "last_model",
    "prune",
    "repair",
    "unlearn",
]
