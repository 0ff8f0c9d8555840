"""Labelled images: finding and decoding them, drawing from them, and splitting them among clients."""

from fedmend.data.class_names import read_class_names
from fedmend.data.image_set import ImageSet
from fedmend.data.lazy_images import LazyImages
from fedmend.data.loading import SAMPLE, load_images, open_images
from fedmend.data.partition import dirichlet, iid, k_label
from fedmend.data.sampling import stratified

__all__ = [
    "SAMPLE",
    "ImageSet",
    "LazyImages",
    "dirichlet",
    "iid",
    "k_label",
    "load_images",
    "open_images",
    "read_class_names",
    "stratified",
]
