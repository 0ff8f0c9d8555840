"""The guard's own clean images: all measure accuracy, and each scan draws some of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor, nn

from fedmend.data import stratified
from fedmend.data.same_images import among
from fedmend.detection import Case
from fedmend.detection.case_checks import check_case, check_classes
from fedmend.detection.decision import MIN_IMAGES
from fedmend.detection.difference_rule import forgotten_classes
from fedmend.detection.model_checks import FEW_IMAGES, check_model
from fedmend.errors import ConfigError, DataError
from fedmend.evaluation import accuracy
from fedmend.inference import pixels_for, predict
from fedmend.repairs.held_out_images import MIN_IMAGES as MIN_REPAIR_IMAGES
from fedmend.seeds import generator


@dataclass(frozen=True, eq=False)
class OwnImages:
    """Clean images with labels, which no client has trained on.

    Attributes:
        images: uint8, or floats in [0, 1], (N, C, H, W).
        labels: int64 (N,).
        class_names: one per class; None: they are numbered.
        num_classes: that the federation's model tells apart.
    """

    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...] | None
    num_classes: int

    @staticmethod
    def checked(
        model: nn.Module, images: Tensor, labels: Tensor, class_names: tuple[str, ...] | None
    ) -> OwnImages:
        """Images for the guard of a model like this one, which is shown a few of them.

        Raises:
            DataError: their type, shape, scale, labels or class names don't fit; it says what came.
            ModelError: no scan could use the model: see :func:`fedmend.detection.model_checks.check_model`.
        """
        if not isinstance(images, Tensor) or not isinstance(labels, Tensor):
            raise DataError(
                f"a guard needs images and labels as tensors; got a {type(images).__name__} and a "
                f"{type(labels).__name__}"
            )
        check_case(Case(model, images=images, labels=labels))
        classes = check_model(model, pixels_for(model, images[:FEW_IMAGES]), "the guard's model")
        check_classes(classes, labels, class_names)
        return OwnImages(images, labels, class_names, classes)

    def check_size(self, per_class: int, repaired: bool) -> None:
        """Refuse to guard with fewer images per scan than a scan or a repair needs.

        Args:
            per_class: how many images of each class a scan looks at. repaired: whether the policy has a repair.

        Raises:
            DataError: there are too few images in all. ConfigError: too few per class are chosen.
        """
        needed, what = (MIN_REPAIR_IMAGES, "a repair") if repaired else (MIN_IMAGES, "a scan")
        without = ', or choose repair = "none"' if repaired else ""
        if len(self.images) < needed:
            raise DataError(
                f"{what} needs at least {needed} images; the guard has {len(self.images)}: give more{without}"
            )
        if per_class * self.num_classes < needed:
            least = -(-needed // self.num_classes)
            raise ConfigError(
                f"{what} needs at least {needed} images; [guard] images_per_class = {per_class} makes "
                f"{per_class * self.num_classes} with {self.num_classes} classes: choose {least} or more{without}"
            )

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

    def without(self, learned: Tensor) -> OwnImages:
        """Those that are not among these, (N, C, H, W): a model knows the images that it learned from."""
        others = ~among(self.images, learned)
        return replace(self, images=self.images[others], labels=self.labels[others])

    def accuracy(self, model: nn.Module) -> float:
        """The fraction of all images that a model classifies as labelled."""
        return accuracy(model, self.images, self.labels)

    def _drawn(self, per_class: int, seed: int) -> Tensor:
        """Indices of up to ``per_class`` images of each class."""
        count = min(len(self.images), per_class * self.num_classes)
        return stratified(self, count, generator(seed, "images"))
