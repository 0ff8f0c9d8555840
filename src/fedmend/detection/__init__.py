"""Detectors: from a suspect, a reference and clean images to a finding.

A new detector is a file here and a line in ``DETECTORS``; see CONTRIBUTING.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from fedmend.detection.abs_scan import ArtificialBrainStimulation
from fedmend.detection.activation_clustering import ActivationClustering
from fedmend.detection.agreement import Agreement
from fedmend.detection.base import (
    Case,
    Covered,
    Detector,
    Finding,
    Measure,
    Need,
    Target,
    measured,
    most_suspicious,
    recovered,
)
from fedmend.detection.choosing import DetectorChoice, LeftOut, all_detectors, default_methods
from fedmend.detection.contrastive_loss import contrast
from fedmend.detection.contrastive_paper import PAPER_SETTINGS, ContrastivePaper
from fedmend.detection.contrastive_rule import PaperThresholds
from fedmend.detection.deep_inspect import DeepInspect
from fedmend.detection.difference_rule import DifferenceLimits
from fedmend.detection.differential import Differential
from fedmend.detection.differential_scan import Effort
from fedmend.detection.lone_suspect import LoneSuspect, accelerated_suspect
from fedmend.detection.mm_bd import MaximumMargin
from fedmend.detection.neural_cleanse import NeuralCleanse
from fedmend.detection.neuron_inspect import NeuronInspect
from fedmend.detection.scan_report import Examples, ScanReport
from fedmend.detection.scanning import scan
from fedmend.detection.search.class_inversion import ClassInversion
from fedmend.detection.search.few_pixels import FewPixels, FoundTrigger, few_pixel_triggers, moved
from fedmend.detection.search.generated_triggers import GeneratedTriggers
from fedmend.detection.search.optimised_triggers import LargerTriggers, larger_triggers
from fedmend.detection.search.penalty_schedule import Schedule
from fedmend.detection.tabor import Tabor
from fedmend.detection.tabor_terms import TaborWeights
from fedmend.kinds import from_table

DETECTORS: dict[str, Callable[..., Detector]] = {
    "abs": ArtificialBrainStimulation,
    "activation-clustering": ActivationClustering,
    "contrastive-paper-cifar10": partial(replace, PAPER_SETTINGS["cifar10"]),
    "contrastive-paper-gtsrb": partial(replace, PAPER_SETTINGS["gtsrb"]),
    "contrastive-paper-mnist": partial(replace, PAPER_SETTINGS["mnist"]),
    "deep-inspect": DeepInspect,
    "differential": Differential,
    "mm-bd": MaximumMargin,
    "neural-cleanse": NeuralCleanse,
    "neuron-inspect": NeuronInspect,
    "tabor": Tabor,
}
"""A factory for each detector, by name; keyword arguments override its settings."""


def find_detector(name: str) -> Detector:
    """The detector with this name, with its default settings.

    Args:
        name: in ``DETECTORS``, or ``package.module:factory`` for your own.

    Raises:
        ConfigError: there is no such detector, or the factory failed.
    """
    detector: Detector = from_table({"kind": name}, DETECTORS, "detector")
    return detector


__all__ = [
    "DETECTORS",
    "PAPER_SETTINGS",
    "ActivationClustering",
    "Agreement",
    "ArtificialBrainStimulation",
    "Case",
    "ClassInversion",
    "ContrastivePaper",
    "Covered",
    "DeepInspect",
    "Detector",
    "DetectorChoice",
    "DifferenceLimits",
    "Differential",
    "Effort",
    "Examples",
    "FewPixels",
    "Finding",
    "FoundTrigger",
    "GeneratedTriggers",
    "LargerTriggers",
    "LeftOut",
    "LoneSuspect",
    "MaximumMargin",
    "Measure",
    "Need",
    "NeuralCleanse",
    "NeuronInspect",
    "PaperThresholds",
    "ScanReport",
    "Schedule",
    "Tabor",
    "TaborWeights",
    "Target",
    "accelerated_suspect",
    "all_detectors",
    "contrast",
    "default_methods",
    "few_pixel_triggers",
    "find_detector",
    "larger_triggers",
    "measured",
    "most_suspicious",
    "moved",
    "recovered",
    "scan",
]
