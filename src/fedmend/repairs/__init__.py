"""Repairs remove a backdoor from a model. One gate decides, for all methods, whether the result is released.

A name is imported from its module when it is first used: a page shows a repair's report without importing repairs.
"""

from typing import TYPE_CHECKING

from fedmend.lazy_names import on_demand

if TYPE_CHECKING:
    from fedmend.repairs.accuracy_sources import AccuracySource, ValidationSet
    from fedmend.repairs.anp import AdversarialNeuronPruning
    from fedmend.repairs.base import Candidate, Context, Participants, Repair
    from fedmend.repairs.bti_dbf import BenignFeatureUnlearning
    from fedmend.repairs.contrastive_paper_unlearning import ContrastivePaperUnlearning
    from fedmend.repairs.deep_sweep import AugmentationPolicy, DeepSweep, Preprocessed
    from fedmend.repairs.distillation import Distillation
    from fedmend.repairs.federated_pruning import PAPER_RECIPE, FederatedPruning
    from fedmend.repairs.fine_pruning import FinePruning
    from fedmend.repairs.ft_sam import SharpnessAwareTuning
    from fedmend.repairs.gate import Gate, HoldOutGate
    from fedmend.repairs.i_bau import AdversarialUnlearning
    from fedmend.repairs.named_repairs import REPAIRS
    from fedmend.repairs.neural_cleanse_pruning import NeuralCleansePruning
    from fedmend.repairs.neural_cleanse_unlearning import NeuralCleanseUnlearning
    from fedmend.repairs.pruning_stages import Pruning, prune
    from fedmend.repairs.repair_on_sums import best_groups_on_sums, vote_on_sums
    from fedmend.repairs.repair_report import (
        FineTuningDetails,
        NeuronDetails,
        PruningDetails,
        RepairReport,
        Stage,
        UnlearningDetails,
    )
    from fedmend.repairs.repairing import FIVE_EPOCHS, VOTING_GATE, repair, repair_by_votes
    from fedmend.repairs.simulated_run import participants_of, round_model
    from fedmend.repairs.unlearning import Unlearning, unlearn

_HOMES = {
    "fedmend.repairs.accuracy_sources": (
        "AccuracySource",
        "ValidationSet",
    ),
    "fedmend.repairs.anp": ("AdversarialNeuronPruning",),
    "fedmend.repairs.base": (
        "Candidate",
        "Context",
        "Participants",
        "Repair",
    ),
    "fedmend.repairs.bti_dbf": ("BenignFeatureUnlearning",),
    "fedmend.repairs.contrastive_paper_unlearning": ("ContrastivePaperUnlearning",),
    "fedmend.repairs.deep_sweep": (
        "AugmentationPolicy",
        "DeepSweep",
        "Preprocessed",
    ),
    "fedmend.repairs.distillation": ("Distillation",),
    "fedmend.repairs.federated_pruning": (
        "PAPER_RECIPE",
        "FederatedPruning",
    ),
    "fedmend.repairs.fine_pruning": ("FinePruning",),
    "fedmend.repairs.ft_sam": ("SharpnessAwareTuning",),
    "fedmend.repairs.gate": (
        "Gate",
        "HoldOutGate",
    ),
    "fedmend.repairs.i_bau": ("AdversarialUnlearning",),
    "fedmend.repairs.named_repairs": ("REPAIRS",),
    "fedmend.repairs.neural_cleanse_pruning": ("NeuralCleansePruning",),
    "fedmend.repairs.neural_cleanse_unlearning": ("NeuralCleanseUnlearning",),
    "fedmend.repairs.pruning_stages": (
        "Pruning",
        "prune",
    ),
    "fedmend.repairs.repair_on_sums": (
        "best_groups_on_sums",
        "vote_on_sums",
    ),
    "fedmend.repairs.repair_report": (
        "FineTuningDetails",
        "NeuronDetails",
        "PruningDetails",
        "RepairReport",
        "Stage",
        "UnlearningDetails",
    ),
    "fedmend.repairs.repairing": (
        "FIVE_EPOCHS",
        "VOTING_GATE",
        "repair",
        "repair_by_votes",
    ),
    "fedmend.repairs.simulated_run": (
        "participants_of",
        "round_model",
    ),
    "fedmend.repairs.unlearning": (
        "Unlearning",
        "unlearn",
    ),
}

__all__ = [
    "FIVE_EPOCHS",
    "PAPER_RECIPE",
    "REPAIRS",
    "VOTING_GATE",
    "AccuracySource",
    "AdversarialNeuronPruning",
    "AdversarialUnlearning",
    "AugmentationPolicy",
    "BenignFeatureUnlearning",
    "Candidate",
    "Context",
    "ContrastivePaperUnlearning",
    "DeepSweep",
    "Distillation",
    "FederatedPruning",
    "FinePruning",
    "FineTuningDetails",
    "Gate",
    "HoldOutGate",
    "NeuralCleansePruning",
    "NeuralCleanseUnlearning",
    "NeuronDetails",
    "Participants",
    "Preprocessed",
    "Pruning",
    "PruningDetails",
    "Repair",
    "RepairReport",
    "SharpnessAwareTuning",
    "Stage",
    "Unlearning",
    "UnlearningDetails",
    "ValidationSet",
    "best_groups_on_sums",
    "participants_of",
    "prune",
    "repair",
    "repair_by_votes",
    "round_model",
    "unlearn",
    "vote_on_sums",
]

__getattr__ = on_demand(globals(), _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
