"""Draws images by their labels."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from fedmend.errors import DataError


class Labelled(Protocol):
    """Anything with labels, such as an ImageSet or LazyImages; drawing decodes no image."""

    @property
    def labels(self) -> Tensor:
        """int64, (N,), in [0, num_classes)."""
        ...

    @property
    def num_classes(self) -> int:
        """Number of classes, with or without images."""
        ...


def stratified(images: Labelled, count: int, generator: torch.Generator) -> Tensor:
    """Draw ``count`` distinct images, balanced over the classes as far as possible.

    With 10 classes and ``count`` 30 it draws three images per class, the contrastive paper's scan set. If ``count``
    doesn't divide evenly, random classes give one more; a class with too few images gives all of them, and the others
    make up for it.

    Returns:
        int64, (count,): indices, ascending.

    Raises:
        DataError: ``count`` is not in [1, N].
    """
    labels = images.labels.cpu()
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= len(labels):
        raise DataError(
            f"count must be a whole number in [1, {len(labels)}], the number of images; got {count!r}"
        )
    quotas = _quotas(torch.bincount(labels, minlength=images.num_classes), count, generator)
    drawn = []
    for label, quota in enumerate(quotas.tolist()):
        members = (labels == label).nonzero().flatten()
        drawn.append(members[torch.randperm(len(members), generator=generator)[:quota]])
    return torch.cat(drawn).sort().values


def _quotas(available: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """The number of images to draw from each class: the most equal split of ``count`` within ``available``."""
    quotas = torch.zeros_like(available)
    while count > 0:
        unfilled = (available > quotas).nonzero().flatten()
        each = min(count // len(unfilled), int((available - quotas)[unfilled].min()))
        if each == 0:
            unfilled = unfilled[torch.randperm(len(unfilled), generator=generator)[:count]]
            each = 1
        quotas[unfilled] += each
        count -= each * len(unfilled)
    return quotas
