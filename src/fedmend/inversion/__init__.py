"""Trigger inversion: from a suspect model, a clean reference and images to a mask and a pattern."""

from fedmend.inversion.contrastive import PAPER_SETTINGS, THOROUGH, Contrastive, contrastive_loss
from fedmend.inversion.features import Answers, FeatureMap, frozen
from fedmend.inversion.few_pixels import FoundTrigger, few_pixel_triggers, moved
from fedmend.inversion.half_precision import InHalfPrecision
from fedmend.inversion.lighter import lighter
from fedmend.inversion.search import Recovered, Search

__all__ = [
    "PAPER_SETTINGS",
    "THOROUGH",
    "Answers",
    "Contrastive",
    "FeatureMap",
    "FoundTrigger",
    "InHalfPrecision",
    "Recovered",
    "Search",
    "contrastive_loss",
    "few_pixel_triggers",
    "frozen",
    "lighter",
    "moved",
]
