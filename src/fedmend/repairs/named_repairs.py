"""The repairs that have a name of their own."""

from fedmend.repairs.anp import AdversarialNeuronPruning
from fedmend.repairs.base import Repair
from fedmend.repairs.bti_dbf import BenignFeatureUnlearning
from fedmend.repairs.contrastive_paper_unlearning import ContrastivePaperUnlearning
from fedmend.repairs.deep_sweep import DeepSweep
from fedmend.repairs.federated_pruning import PAPER_RECIPE, FederatedPruning
from fedmend.repairs.fine_pruning import FinePruning
from fedmend.repairs.ft_sam import SharpnessAwareTuning
from fedmend.repairs.i_bau import AdversarialUnlearning
from fedmend.repairs.neural_cleanse_pruning import NeuralCleansePruning
from fedmend.repairs.neural_cleanse_unlearning import NeuralCleanseUnlearning
from fedmend.repairs.repairing import FIVE_EPOCHS

REPAIRS: dict[str, Repair] = {
    "unlearn": FIVE_EPOCHS,
    "prune": FederatedPruning(),
    "prune-paper": PAPER_RECIPE,
    "anp": AdversarialNeuronPruning(),
    "bti-dbf": BenignFeatureUnlearning(),
    "contrastive-paper-unlearning": ContrastivePaperUnlearning(),
    "deep-sweep": DeepSweep(),
    "fine-pruning": FinePruning(),
    "ft-sam": SharpnessAwareTuning(),
    "i-bau": AdversarialUnlearning(),
    "neural-cleanse-pruning": NeuralCleansePruning(),
    "neural-cleanse-unlearning": NeuralCleanseUnlearning(),
}
"""Repairs by the names that the command line uses."""
