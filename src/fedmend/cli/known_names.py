"""Names that help and completion show; the tables that hold what they stand for import torch."""

DETECTORS = (
    "differential",
    "contrastive-paper-mnist",
    "contrastive-paper-cifar10",
    "contrastive-paper-gtsrb",
    "deep-inspect",
    "neural-cleanse",
    "tabor",
)
EFFORTS = ("quick", "standard", "exhaustive")
REPAIRS = ("unlearn", "prune", "prune-paper")
ARCHITECTURES = ("convnet", "resnet18", "resnet34", "two-conv-20-50", "two-conv-8-16", "three-conv")
NORMALIZATIONS = ("imagenet", "cifar10", "mnist")
DATA = ("fashion-mnist-sample", "mnist", "fashion-mnist", "cifar10", "gtsrb")
