"""fedmend finds and removes backdoors in models trained by federated learning.

The three jobs are :func:`scan`, :func:`repair` and :func:`simulate`; see the README for the command line.
"""

from fedmend.checkpoints import load_checkpoint, read_state, read_trigger, save_state, save_trigger
from fedmend.data import ImageSet, load_images
from fedmend.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    FedmendError,
    ModelError,
    OutputError,
)
from fedmend.federation import SimulationConfig, read_config, simulate
from fedmend.inversion import PAPER_SETTINGS, Contrastive, Search
from fedmend.metrics import accuracy, attack_success_rate
from fedmend.models import build_model
from fedmend.prune import PruneReport, Pruning, prune
from fedmend.repair import RepairReport, repair
from fedmend.scan import scan
from fedmend.scan_report import ScanReport, Thresholds
from fedmend.triggers import Trigger
from fedmend.unlearning import Unlearning, unlearn

__all__ = [
    "PAPER_SETTINGS",
    "CheckpointError",
    "ConfigError",
    "Contrastive",
    "DataError",
    "FedmendError",
    "ImageSet",
    "ModelError",
    "OutputError",
    "PruneReport",
    "Pruning",
    "RepairReport",
    "ScanReport",
    "Search",
    "SimulationConfig",
    "Thresholds",
    "Trigger",
    "Unlearning",
    "accuracy",
    "attack_success_rate",
    "build_model",
    "load_checkpoint",
    "load_images",
    "prune",
    "read_config",
    "read_state",
    "read_trigger",
    "repair",
    "save_state",
    "save_trigger",
    "scan",
    "simulate",
    "unlearn",
]
