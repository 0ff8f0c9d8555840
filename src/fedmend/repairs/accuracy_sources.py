"""Where the clean accuracies that choose a model come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor, nn

from fedmend.errors import DataError
from fedmend.pruning import accuracies_along


class AccuracySource(Protocol):
    """Where clean accuracies come from.

    Attributes:
        probe: one image of the right shape, (1, C, H, W); its content does not matter.
        warnings: why the accuracies may mislead.
    """

    probe: Tensor
    warnings: list[str]

    def along(self, model: nn.Module, layer: str, sequence: Sequence[int], points: Sequence[int]) -> Tensor:
        """Accuracy at each point of a pruning sequence, float64 (points,); see ``fedmend.pruning.accuracies_along``."""
        ...


class ValidationSet:
    """Accuracies on the server's own images: uint8 or float in [0, 1], (N, C, H, W), with labels int64 (N,).

    Raises:
        DataError: there are no images, or labels don't match them.
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        if images.ndim != 4 or len(images) == 0 or labels.shape != (len(images),):
            raise DataError(
                f"validation images must be (N, C, H, W) with labels (N,), N at least 1; got {tuple(images.shape)} and "
                f"{tuple(labels.shape)}"
            )
        self.images, self.labels, self.probe = images, labels, images[:1]
        self.warnings: list[str] = []

    def along(self, model: nn.Module, layer: str, sequence: Sequence[int], points: Sequence[int]) -> Tensor:
        """See :class:`AccuracySource`."""
        return accuracies_along(model, sequence, points, self.images, self.labels, layer)
