"""Neural Cleanse: a class that a much smaller patch reaches than the others is an attacker's target."""

from __future__ import annotations

from dataclasses import asdict
from typing import ClassVar

import torch

from fedmend.checked_settings import Bytes, Positive, settings
from fedmend.detection.anomaly_index import anomaly
from fedmend.detection.base import Case, Finding, Need
from fedmend.detection.class_by_class import finding_of_classes
from fedmend.detection.lone_suspect import accelerated_suspect
from fedmend.detection.outlier_rule import LIMIT, Compared
from fedmend.detection.search.class_inversion import ClassInversion
from fedmend.progress import Progress, silent


@settings
class NeuralCleanse:
    """For every class, search the smallest patch that sends all other images there, and compare the masks' L1 norms.

    B. Wang et al., "Neural Cleanse: Identifying and Mitigating Backdoor Attacks in Neural Networks", IEEE S&P 2019,
    Section IV: the suspect is backdoored if the norm of a class lies below the median, and its anomaly index (distance
    from the median in median absolute deviations times 1.4826) is above 2. It needs no reference and no labels: without
    them, a class is what the suspect predicts.

    The verdict is inconclusive where the deviation is degenerate, as with two classes. A class for which no patch works
    is not flagged. Further deviations are those of :class:`ClassInversion`.

    Attributes:
        search: the search of all classes.
        limit: the largest anomaly index that is still usual.
        memory: bytes that the search may take beside model and images; None for half of what is free.

    Raises:
        ConfigError: a setting is out of range.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.IMAGES})

    search: ClassInversion = ClassInversion()
    limit: Positive = LIMIT
    memory: Bytes | None = None

    def __call__(self, case: Case, rng: torch.Generator, progress: Progress = silent) -> Finding:
        """Search, compare, decide.

        Args:
            case: with images of two classes or more.
            rng: on the CPU, for the random starts and the order of the images.
            progress: called as ``progress("trigger inversion", round, rounds)``.

        Raises:
            ModelError: the model passes no gradient to its input, or a loss became NaN or infinite.
            ConfigError: not even one image fits into the memory.
        """
        with accelerated_suspect(case, self.memory) as suspect:
            found = self.search(suspect, rng, progress)
        compared = Compared(
            "the mask's L1 norm",
            "pixels",
            found.norms,
            found.reached,
            anomaly(found.norms),
            self.limit,
            case.class_name,
        )
        return finding_of_classes(
            "neural-cleanse", case, found, compared, notes=suspect.notes, settings=asdict(self)
        )
