"""Repairs: taking a backdoor out of a model. Whatever the method, one gate decides what is released."""

from fedmend.repairs.accuracy_sources import AccuracySource, ValidationSet
from fedmend.repairs.base import Candidate, Context, Participants, Repair
from fedmend.repairs.distillation import Distillation
from fedmend.repairs.federated_pruning import PAPER_RECIPE, FederatedPruning
from fedmend.repairs.gate import Gate, HoldOutGate
from fedmend.repairs.pruning_stages import Pruning, prune
from fedmend.repairs.repair_report import RepairReport
from fedmend.repairs.repairing import FIVE_EPOCHS, VOTING_GATE, repair, repair_by_votes
from fedmend.repairs.unlearning import Unlearning, unlearn

REPAIRS: dict[str, Repair] = {
    "unlearn": FIVE_EPOCHS,
    "prune": FederatedPruning(),
    "prune-paper": PAPER_RECIPE,
}
"""Repairs by the names that the command line uses."""

__all__ = [
    "FIVE_EPOCHS",
    "PAPER_RECIPE",
    "REPAIRS",
    "VOTING_GATE",
    "AccuracySource",
    "Candidate",
    "Context",
    "Distillation",
    "FederatedPruning",
    "Gate",
    "HoldOutGate",
    "Participants",
    "Pruning",
    "Repair",
    "RepairReport",
    "Unlearning",
    "ValidationSet",
    "prune",
    "repair",
    "repair_by_votes",
    "unlearn",
]
