"""fedmend finds and removes backdoors in models trained by federated learning.

The three jobs are :func:`scan`, :func:`repair` and :func:`simulate`; see the README for the command line. A name is
imported from its module when it is first used, so that ``import fedmend`` takes no time.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedmend.checkpoints import load_checkpoint, read_state, read_trigger, save_state, save_trigger
    from fedmend.data import ImageSet, LazyImages, load_images, open_images
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
    from fedmend.errors import CheckpointError, ConfigError, DataError, FedmendError, ModelError, OutputError
    from fedmend.evaluation import accuracy, attack_success_rate
    from fedmend.federation import SimulationConfig, read_config, simulate
    from fedmend.goals import AllToAll, AllToOne, OneToOne, Several
    from fedmend.models import build_model
    from fedmend.repairs import (
        REPAIRS,
        FederatedPruning,
        Gate,
        HoldOutGate,
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

_HOMES = {
    "fedmend.checkpoints": (
        "load_checkpoint",
        "read_state",
        "read_trigger",
        "save_state",
        "save_trigger",
    ),
    "fedmend.data": (
        "ImageSet",
        "LazyImages",
        "load_images",
        "open_images",
    ),
    "fedmend.detection": (
        "DETECTORS",
        "Case",
        "Contrastive",
        "ContrastivePaper",
        "Detector",
        "Finding",
        "Measure",
        "Need",
        "ScanReport",
        "SizeLimitedSearch",
        "Target",
        "Thresholds",
        "find_detector",
        "scan",
    ),
    "fedmend.errors": (
        "CheckpointError",
        "ConfigError",
        "DataError",
        "FedmendError",
        "ModelError",
        "OutputError",
    ),
    "fedmend.evaluation": (
        "accuracy",
        "attack_success_rate",
    ),
    "fedmend.federation": (
        "SimulationConfig",
        "read_config",
        "simulate",
    ),
    "fedmend.goals": (
        "AllToAll",
        "AllToOne",
        "OneToOne",
        "Several",
    ),
    "fedmend.models": ("build_model",),
    "fedmend.repairs": (
        "REPAIRS",
        "FederatedPruning",
        "Gate",
        "HoldOutGate",
        "Pruning",
        "RepairReport",
        "Unlearning",
        "ValidationSet",
        "prune",
        "repair",
        "repair_by_votes",
        "unlearn",
    ),
    "fedmend.triggers": ("Patch",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "DETECTORS",
    "REPAIRS",
    "AllToAll",
    "AllToOne",
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
    "HoldOutGate",
    "ImageSet",
    "LazyImages",
    "Measure",
    "ModelError",
    "Need",
    "OneToOne",
    "OutputError",
    "Patch",
    "Pruning",
    "RepairReport",
    "ScanReport",
    "Several",
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
    "open_images",
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


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
