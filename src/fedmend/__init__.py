"""fedmend finds and removes backdoors in models trained by federated learning.

The three jobs are :func:`scan`, :func:`repair` and :func:`simulate`; see the README for the command line.
"""

from fedmend.checkpoints import load_checkpoint, read_state, read_trigger, save_state, save_trigger
from fedmend.data import ImageSet, load_images
from fedmend.detection import (
    DETECTORS,
    Case,
    Contrastive,
    ContrastivePaper,
    Detector,
    Finding,
    Measure,
    Need,
    ScanReport,
    SizeLimitedSearch,
    Target,
    Thresholds,
    find_detector,
    scan,
)
from fedmend.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    FedmendError,
    ModelError,
    OutputError,
)
from fedmend.evaluation import accuracy, attack_success_rate
from fedmend.federation import SimulationConfig, read_config, simulate
from fedmend.models import build_model
from fedmend.repairs import (
    REPAIRS,
    FederatedPruning,
    Gate,
    Pruning,
    RepairReport,
    Unlearning,
    ValidationSet,
    prune,
    repair,
    repair_by_votes,
    unlearn,
)
from fedmend.triggers import Patch

__all__ = [
    "DETECTORS",
    "REPAIRS",
    "Case",
    "CheckpointError",
    "ConfigError",
    "Contrastive",
    "ContrastivePaper",
    "DataError",
    "Detector",
    "FederatedPruning",
    "FedmendError",
    "Finding",
    "Gate",
    "ImageSet",
    "Measure",
    "ModelError",
    "Need",
    "OutputError",
    "Patch",
    "Pruning",
    "RepairReport",
    "ScanReport",
    "SimulationConfig",
    "SizeLimitedSearch",
    "Target",
    "Thresholds",
    "Unlearning",
    "ValidationSet",
    "accuracy",
    "attack_success_rate",
    "build_model",
    "find_detector",
    "load_checkpoint",
    "load_images",
    "prune",
    "read_config",
    "read_state",
    "read_trigger",
    "repair",
    "repair_by_votes",
    "save_state",
    "save_trigger",
    "scan",
    "simulate",
    "unlearn",
]
