"""Labelled images: loading them, sharing them out among clients, and a sample in the package."""

from fedmend.data.image_set import ImageSet, stratified
from fedmend.data.loading import SAMPLE, load_images
from fedmend.data.partition import dirichlet, iid, k_label

__all__ = ["SAMPLE", "ImageSet", "dirichlet", "iid", "k_label", "load_images", "stratified"]
