"""The two models of a case, as a search uses them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fedmend.acceleration import accelerate
from fedmend.detection.base import Case
from fedmend.detection.model_checks import FEW_IMAGES, require_gradient, require_slope
from fedmend.detection.search.chunking import in_parts
from fedmend.detection.search.features import FeatureMap, Outputs, about_zero, far_from_zero
from fedmend.detection.search.memory import images_at_once
from fedmend.inference import batch_size_for, frozen


@dataclass(frozen=True, eq=False)
class ModelPair:
    """Suspect and reference with their outputs on the clean images.

    Attributes:
        suspect, reference: images to features and logits; accelerated if the features are the logits.
        images: float (N, C, H, W) in [0, 1].
        suspect_clean, reference_clean: features (N, F) and logits (N, classes) of the images, by the models as given.
            Logits that are features are centred where they have a large common part.
        notes: how the models were accelerated.
        exact: suspect and reference in their own precision, to judge with; None if the models are.
    """

    suspect: Callable[[Tensor], Outputs]
    reference: Callable[[Tensor], Outputs]
    images: Tensor
    suspect_clean: Outputs
    reference_clean: Outputs
    notes: tuple[str, ...] = ()
    exact: tuple[Callable[[Tensor], Outputs], Callable[[Tensor], Outputs]] | None = None

    def within(self, memory: int) -> ModelPair:
        """The pair with models that compute as many images at once as a gradient step of ``memory`` bytes may.

        Raises:
            ConfigError: not even one image fits.
        """
        at_once = images_at_once([self.suspect, self.reference], self.images, memory)
        return replace(
            self, suspect=in_parts(self.suspect, at_once), reference=in_parts(self.reference, at_once)
        )

    def swapped(self) -> ModelPair:
        """The pair with the roles swapped."""
        return ModelPair(
            self.reference,
            self.suspect,
            self.images,
            self.reference_clean,
            self.suspect_clean,
            self.notes,
            None if self.exact is None else (self.exact[1], self.exact[0]),
        )


@contextmanager
def accelerated_pair(
    case: Case, layer: str, *, half: bool = False, gradient: bool = True
) -> Iterator[ModelPair]:
    """A case's models for a search, in eval mode and with frozen weights; restored at the end.

    Args:
        case: with a reference and images.
        layer: whose outputs are the features (see :class:`FeatureMap`).
        half: whether the search may use half precision where that is faster.
        gradient: whether to refuse models that pass no gradient to their input, or zeros; else the caller must notice.

    Raises:
        ModelError: a model has no such layer, or passes no gradient to its input, or zeros.
    """
    assert case.reference is not None
    with frozen(case.suspect, case.reference):
        for name, model in (("the suspect", case.suspect), ("the reference", case.reference)):
            require_gradient(model, case.pixels[:2], name, required=gradient)
            if gradient:
                require_slope(_features(model, layer), case.pixels[:FEW_IMAGES], name)
        if layer != "logits":
            suspect, reference = FeatureMap(case.suspect, layer), FeatureMap(case.reference, layer)
            several = batch_size_for(case.pixels)
            with torch.no_grad():
                clean = in_parts(suspect, several)(case.pixels), in_parts(reference, several)(case.pixels)
            yield ModelPair(suspect, reference, case.pixels, *clean)
            return
        logits = case.suspect_logits, case.reference_logits
        centred = [far_from_zero(each) for each in logits]
        own = [about_zero(each) if far else each for each, far in zip(logits, centred, strict=True)]
        clean = (own[0], own[0]), (own[1], own[1])
        faster = [accelerate(model, case.pixels, half=half) for model in (case.suspect, case.reference)]
        notes = tuple(dict.fromkeys(note for each in faster for note in each.notes))
        with frozen(*(each.model for each in faster)):
            suspect, reference = (
                FeatureMap(each.model, centred=far) for each, far in zip(faster, centred, strict=True)
            )
            exact = (
                FeatureMap(faster[0].exact, centred=centred[0]),
                FeatureMap(faster[1].exact, centred=centred[1]),
            )
            yield ModelPair(suspect, reference, case.pixels, *clean, notes, exact)


def _features(model: nn.Module, layer: str) -> Callable[[Tensor], Tensor]:
    outputs = FeatureMap(model, layer)
    return lambda images: outputs(images)[0]
