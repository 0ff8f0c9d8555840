"""The guard's own clean images: all measure accuracy, and each scan draws some of them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from fedmend.data import stratified
from fedmend.detection import Case
from fedmend.detection.case_checks import check_case
from fedmend.detection.difference_rule import forgotten_classes
from fedmend.errors import DataError
from fedmend.evaluation import accuracy
from fedmend.inference import predict
from fedmend.seeds import generator


@dataclass(frozen=True, eq=False)
class OwnImages:
    """Clean images with labels, which no client has trained on.

    Attributes:
        images: uint8, or floats in [0, 1], (N, C, H, W).
        labels: int64 (N,).
        class_names: one per class; None: they are numbered.
    """

    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...] | None = None

    def check(self, model: nn.Module) -> None:
        """Refuse images that no scan could use.

        Raises:
            DataError: their type, shape, scale or labels don't fit; it says what came.
        """
        if not isinstance(self.images, Tensor) or not isinstance(self.labels, Tensor):
            raise DataError(
                f"a guard needs images and labels as tensors; got a {type(self.images).__name__} and a "
                f"{type(self.labels).__name__}"
            )
        check_case(Case(model, images=self.images, labels=self.labels))

    @property
    def num_classes(self) -> int:
        """Number of classes; without names, as far as the labels go."""
        return int(self.labels.max()) + 1 if self.class_names is None else len(self.class_names)

    def case(self, suspect: nn.Module, reference: nn.Module | None, per_class: int, seed: int) -> Case:
        """A case for a scan, on up to ``per_class`` images of each class, drawn by a seed."""
        chosen = self._drawn(per_class, seed)
        return Case(suspect, reference, self.images[chosen], self.labels[chosen], self.class_names)

    def forgotten(self, model: nn.Module, per_class: int, seed: int) -> frozenset[int]:
        """Classes that a model hardly predicts any more, on as many images as a case has.

        See :func:`fedmend.detection.difference_rule.forgotten_classes`.
        """
        chosen = self._drawn(per_class, seed)
        return forgotten_classes(predict(model, self.images[chosen]), self.labels[chosen], self.num_classes)

    def accuracy(self, model: nn.Module) -> float:
        """The fraction of all images that a model classifies as labelled."""
        return accuracy(model, self.images, self.labels)

    def _drawn(self, per_class: int, seed: int) -> Tensor:
        """Indices of up to ``per_class`` images of each class."""
        count = min(len(self.images), per_class * self.num_classes)
        return stratified(self, count, generator(seed, "images"))
