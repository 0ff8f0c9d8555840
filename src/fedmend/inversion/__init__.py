"""Trigger inversion: from a suspect model, a clean reference and images to a mask and a pattern."""

from fedmend.inversion.contrastive import Contrastive, contrastive_loss
from fedmend.inversion.search import FeatureMap, Recovered, frozen

__all__ = ["Contrastive", "FeatureMap", "Recovered", "contrastive_loss", "frozen"]
