"""The repairs that have a name of their own."""

from fedmend.repairs.base import Repair
from fedmend.repairs.federated_pruning import PAPER_RECIPE, FederatedPruning
from fedmend.repairs.repairing import FIVE_EPOCHS

REPAIRS: dict[str, Repair] = {
    "unlearn": FIVE_EPOCHS,
    "prune": FederatedPruning(),
    "prune-paper": PAPER_RECIPE,
}
"""Repairs by the names that the command line uses."""
