"""Names that help and completion show; the tables that hold what they stand for import torch."""

ALL = "all"
"""Every detector that a case allows."""
DETECTORS = (
    "abs",
    "activation-clustering",
    "contrastive-paper-cifar10",
    "contrastive-paper-gtsrb",
    "contrastive-paper-mnist",
    "deep-inspect",
    "differential",
    "mm-bd",
    "neural-cleanse",
    "neuron-inspect",
    "tabor",
)
EFFORTS = ("quick", "standard", "exhaustive")
REPAIRS = (
    "unlearn",
    "prune",
    "prune-paper",
    "anp",
    "bti-dbf",
    "contrastive-paper-unlearning",
    "deep-sweep",
    "fine-pruning",
    "ft-sam",
    "i-bau",
    "neural-cleanse-pruning",
    "neural-cleanse-unlearning",
)
ARCHITECTURES = ("convnet", "resnet18", "resnet34", "two-conv-20-50", "two-conv-8-16", "three-conv")
NORMALIZATIONS = ("imagenet", "cifar10", "mnist")
DATA = ("fashion-mnist-sample", "mnist", "fashion-mnist", "cifar10", "gtsrb")
