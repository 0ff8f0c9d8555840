"""fedmend finds and removes backdoors in models trained by federated learning.

The main functions are :func:`scan`, :func:`repair` and :func:`simulate`; see the README for the command line. Names
are imported on first use, so that ``import fedmend`` is fast.
"""

from typing import TYPE_CHECKING

from fedmend.lazy_names import on_demand

if TYPE_CHECKING:
    from fedmend.checkpoints import load_checkpoint, read_state, read_trigger, save_state, save_trigger
    from fedmend.data import ImageSet, LazyImages, load_images, open_images, read_class_names, stratified
    from fedmend.detection import (
        DETECTORS,
        Case,
        ContrastivePaper,
        Detector,
        Differential,
        Finding,
        Measure,
        Need,
        ScanReport,
        Target,
        find_detector,
        scan,
    )
    from fedmend.errors import CheckpointError, ConfigError, DataError, FedmendError, ModelError, OutputError
    from fedmend.evaluation import accuracy, attack_success_rate
    from fedmend.federation import SimulationConfig, read_config, simulate
    from fedmend.goals import AllToAll, AllToOne, OneToOne, Several
    from fedmend.guard import Decision, Guard, GuardPolicy
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
    from fedmend.triggers import Addition, Patch

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
        "read_class_names",
        "stratified",
    ),
    "fedmend.detection": (
        "DETECTORS",
        "Case",
        "ContrastivePaper",
        "Detector",
        "Differential",
        "Finding",
        "Measure",
        "Need",
        "ScanReport",
        "Target",
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
    "fedmend.guard": (
        "Decision",
        "Guard",
        "GuardPolicy",
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
    "fedmend.triggers": (
        "Addition",
        "Patch",
    ),
}

__all__ = [
    "DETECTORS",
    "REPAIRS",
    "Addition",
    "AllToAll",
    "AllToOne",
    "Case",
    "CheckpointError",
    "ConfigError",
    "ContrastivePaper",
    "DataError",
    "Decision",
    "Detector",
    "Differential",
    "FederatedPruning",
    "FedmendError",
    "Finding",
    "Gate",
    "Guard",
    "GuardPolicy",
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
    "Target",
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
    "read_class_names",
    "read_config",
    "read_state",
    "read_trigger",
    "repair",
    "repair_by_votes",
    "save_state",
    "save_trigger",
    "scan",
    "simulate",
    "stratified",
    "unlearn",
]


__getattr__ = on_demand(globals(), _HOMES)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
