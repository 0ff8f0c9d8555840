"""Names that help and completion show; the tables that hold what they stand for import torch."""

ALL = "all"
"""Every detector that a case allows."""
DETECTORS = (
    "abs",
    "activation-clustering",
    "contrastive-paper-cifar10",
    "contrastive-paper-gtsrb",
    "contrastive-paper-mnist",
    "differential",
    "mm-bd",
    "neuron-inspect",
)
EFFORTS = ("quick", "standard", "exhaustive")
REPAIRS = ("unlearn", "prune", "prune-paper")
ARCHITECTURES = ("convnet", "resnet18", "resnet34", "two-conv-20-50", "two-conv-8-16", "three-conv")
NORMALIZATIONS = ("imagenet", "cifar10", "mnist")
DATA = ("fashion-mnist-sample", "mnist", "fashion-mnist", "cifar10", "gtsrb")
