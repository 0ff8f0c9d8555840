"""DeepInspect: a generator learns a trigger for every class; a class whose trigger is much fainter is a target."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import ClassVar

import torch
from torch import Tensor

from fedmend.checked_settings import Bytes, Count, Positive, settings
from fedmend.detection.anomaly_index import lower_anomaly
from fedmend.detection.base import Case, Finding, Need
from fedmend.detection.class_by_class import finding_of_classes
from fedmend.detection.lone_suspect import accelerated_suspect
from fedmend.detection.outlier_rule import LIMIT, Compared
from fedmend.detection.search.generated_triggers import GeneratedTriggers
from fedmend.detection.search.model_inversion import inverted_images
from fedmend.errors import ConfigError
from fedmend.inference import frozen, logits_of
from fedmend.progress import Progress, silent


@settings
class DeepInspect:
    """Train a generator of triggers for all classes at once, and compare the triggers' L1 norms.

    H. Chen et al., "DeepInspect: A Black-box Trojan Detection and Mitigation Framework for Deep Neural Networks",
    IJCAI 2019: images by model inversion, a conditional generator of additive perturbations, and a deviation factor by
    a variant of the double median absolute deviation: only classes at or below the median, a half of them, make up the
    deviation. The suspect is backdoored if the factor of a class is above 2, which is significance 0.05. It needs no
    reference, no labels and no images.

    Deviations: images that the case has are used, and inverted ones only where it has none; the weight of the
    perturbation's norm is adjusted for each class by Neural Cleanse's schedule, where the paper tunes it by hand for a
    success of 95 %; the norm's bound is 0; the generator is smaller. Distances are those from the median of all
    classes, as in Neural Cleanse; accounts of the paper differ there. With four classes no factor is above 1.35, so
    those can't be flagged at this limit.

    Attributes:
        search: the generator's training.
        image_shape: (C, H, W) of the model's images, for a case that has none.
        inverted: images per class that are inverted.
        inversion_steps: gradient steps of the inversion.
        limit: the largest deviation factor that is still usual.
        memory: bytes that the search may take beside model and images; None for half of what is free.

    Raises:
        ConfigError: a setting is out of range.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()

    search: GeneratedTriggers = GeneratedTriggers()
    image_shape: tuple[Count, Count, Count] | None = None
    inverted: Count = 10
    inversion_steps: Count = 60
    limit: Positive = LIMIT
    memory: Bytes | None = None

    def __call__(self, case: Case, rng: torch.Generator, progress: Progress = silent) -> Finding:
        """Invert images if there are none, train the generator, compare, decide.

        Args:
            case: anything; without images the setting ``image_shape`` says what they are like.
            rng: on the CPU, for weights, noise and the order of the images.
            progress: called as ``progress(stage, done, total)``; the stages are "model inversion" and
                "trigger generation".

        Raises:
            ModelError: the model passes no gradient to its input, or a loss became NaN or infinite.
            ConfigError: there are neither images nor their shape, or not even one image fits into the memory.
        """
        notes: tuple[str, ...] = ()
        if case.images is None:
            case = self._with_images(case, rng, progress)
            notes = (f"searched on {len(case.pixels)} images made by model inversion",)
        with accelerated_suspect(case, self.memory) as suspect:
            found = self.search(suspect, rng, progress)
        compared = Compared(
            "the perturbation's L1 norm",
            "",
            found.norms,
            found.reached,
            lower_anomaly(found.norms),
            self.limit,
            case.class_name,
        )
        return finding_of_classes(
            "deep-inspect", case, found, compared, notes=notes + suspect.notes, settings=asdict(self)
        )

    def _with_images(self, case: Case, rng: torch.Generator, progress: Progress) -> Case:
        """The case with inverted images of every class and these classes as labels."""
        if self.image_shape is None:
            raise ConfigError(
                "the case has no images, and deep-inspect doesn't know what to invert; set image_shape to the "
                "(C, H, W) of the model's images, such as DeepInspect(image_shape=(3, 32, 32)), or give some images"
            )
        like = next(case.suspect.parameters(), torch.empty(0))
        blank = torch.zeros(2, *self.image_shape).to(like)
        classes = logits_of(case.suspect, blank, "the suspect").shape[1]
        labels = torch.arange(classes, device=case.device).repeat(self.inverted)

        def logits(images: Tensor) -> Tensor:
            found: Tensor = case.suspect(images.to(like.dtype).clone())  # a model may work in place
            return found

        with frozen(case.suspect):
            images = inverted_images(logits, labels, self.image_shape, self.inversion_steps, rng, progress)
        return replace(case, images=images, labels=labels)
