"""Trigger inversion: from a suspect model, a clean reference and images to a mask and a pattern."""

from fedmend.detection.contrastive import PAPER_SETTINGS, THOROUGH, Contrastive, contrastive_loss
from fedmend.detection.search.budget_search import Recovered, Search
from fedmend.detection.search.features import Answers, FeatureMap
from fedmend.detection.search.few_pixels import FoundTrigger, few_pixel_triggers, moved

__all__ = [
    "PAPER_SETTINGS",
    "THOROUGH",
    "Answers",
    "Contrastive",
    "FeatureMap",
    "FoundTrigger",
    "Recovered",
    "Search",
    "contrastive_loss",
    "few_pixel_triggers",
    "moved",
]
