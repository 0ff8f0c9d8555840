"""Finds larger patches in any colour, and faint patterns over the whole image, in one model by gradient descent.

It complements :mod:`.few_pixels`, which sees only a few black or white pixels. A client has no clean reference, and in
honest models, too, enough free pixels move a class. What tells a backdoor is that its trigger still works when it is
cut: so triggers are ordered by how well they work at three sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fedmend.checked_settings import Count, Positive, settings
from fedmend.detection.search.chunking import in_chunks
from fedmend.detection.search.families import ADDITIONS, SMALL_PATCHES, Candidates, Family
from fedmend.detection.search.few_pixels import FoundTrigger, moved, require_labelled
from fedmend.inference import batch_size_for, frozen, pixels_for, predict
from fedmend.seeds import generator
from fedmend.triggers import Patch

_SIZES = (1.0, 2 / 3, 1 / 3)
_ALMOST = 0.95
_FORGETTING = 0.3


@settings
class LargerTriggers:
    """Settings of :func:`larger_triggers`.

    Attributes:
        pixels: the most pixels of a patch; at most the image's.
        strength: the largest root mean square of a faint pattern, of the pixels' range.
        images_per_class: most images per class, chosen at random.
        steps: of gradient descent; the size falls from step to step.
        finalists: pairs of classes that are left after a third of the steps.
        batch_size: images per pair and step from then on.
        patches, faint: most triggers of each kind to return.
    """

    pixels: Count = 24
    strength: Positive = 0.1
    images_per_class: Count = 64
    steps: Count = 60
    finalists: Count = 12
    batch_size: Count = 4
    patches: Count = 3
    faint: Count = 2


def larger_triggers(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    search: LargerTriggers = LargerTriggers(),  # noqa: B008 - frozen
    seed: int = 0,
) -> list[FoundTrigger]:
    """Optimise a patch and a faint pattern for each pair of classes in parallel; return the best over all pairs.

    Args:
        model: (N, C, H, W) in [0, 1] to logits; left as found.
        images: uint8 or float in [0, 1], (N, C, H, W).
        labels: int64 (N,). Classes without images, or none that the model classifies correctly, are skipped.
        search: the settings.
        seed: of the choice of images and the first candidates.

    Returns:
        Patches with hard masks, then faint patterns, each the best first: of the sizes at which a trigger works almost
        as well as at the largest, it has the smallest.

    Raises:
        DataError: there are no images, or labels don't match them or the model.
    """
    random = generator(seed, "larger triggers")
    with frozen(model):
        pairs = _Pairs.of(model, images, labels, search.images_per_class, random)
        if not pairs.names:
            return []
        pixels = images[0, 0].numel()
        most = min(search.pixels, pixels)
        patches = _search(model, pairs, SMALL_PATCHES, most, search, random)
        faint = _search(model, pairs, ADDITIONS, search.strength, search, random)
    return [*patches[: search.patches], *faint[: search.faint]]


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Source and target classes, with the images of each source, float (n, C, H, W)."""

    names: list[tuple[int, int]]
    images: dict[int, Tensor]

    @staticmethod
    def of(model: nn.Module, images: Tensor, labels: Tensor, most: int, random: torch.Generator) -> _Pairs:
        classes = require_labelled(model, images, labels)
        own = {}
        for source in labels.unique().tolist():
            places = (labels == source).nonzero().flatten()
            places = places[torch.randperm(len(places), generator=random)[:most].to(places.device)]
            right = places[(predict(model, images[places]) == source).to(places.device)]
            if len(right):
                own[source] = pixels_for(model, images[right])
        names = [(source, target) for source in own for target in range(classes) if target != source]
        return _Pairs(names, own)

    def only(self, chosen: Sequence[int]) -> _Pairs:
        return _Pairs([self.names[each] for each in chosen], self.images)

    def drawn(self, count: int, random: torch.Generator) -> Tensor:
        """Images of each pair's source, (pairs, count, C, H, W)."""
        drawn = []
        for source, _ in self.names:
            own = self.images[source]
            drawn.append(own[torch.randint(len(own), (count,), generator=random).to(own.device)])
        return torch.stack(drawn)


def _search(
    model: nn.Module,
    pairs: _Pairs,
    family: Family,
    smallest: float,
    search: LargerTriggers,
    random: torch.Generator,
) -> list[FoundTrigger]:
    """The triggers of one family, the best first; ``smallest`` is the limit at the last step, in its own unit."""
    like = next(iter(pairs.images.values()))
    at_once = batch_size_for(like)
    largest = max(smallest, family.explored[0] * family.unit(like))
    candidates = family.candidates(len(pairs.names), like, random)
    average: Tensor | None = None
    for step in range(1, search.steps + 1):
        count = 1 if step <= search.steps // 3 else search.batch_size
        targets = torch.tensor([target for _, target in pairs.names], device=like.device)
        targets = targets.repeat_interleave(count)

        def loss(stamped: Tensor, targets: Tensor = targets, count: int = count) -> Tensor:
            def each(some: Tensor, rows: slice) -> Tensor:
                return cross_entropy(model(some), targets[rows], reduction="none")

            return in_chunks(each, stamped.flatten(0, 1), at_once).view(-1, count).mean(1)

        limit = largest * (smallest / largest) ** (step / search.steps)
        losses = candidates.descend(pairs.drawn(count, random), loss, family.lr, limit)
        average = losses if average is None else average.lerp(losses, _FORGETTING)
        if step == search.steps // 3:
            best = average.argsort()[: search.finalists].tolist()
            pairs, candidates, average = pairs.only(best), candidates.only(best), average[best]
    return _judged(model, pairs, candidates, smallest)


def _judged(model: nn.Module, pairs: _Pairs, candidates: Candidates, largest: float) -> list[FoundTrigger]:
    """Each pair's trigger at the smallest size at which it works almost as well; the best over all sizes first."""
    sizes = [size * largest for size in _SIZES]
    judged: list[tuple[float, FoundTrigger]] = []
    for pair, triggers in zip(pairs.names, zip(*map(candidates.triggers, sizes), strict=True), strict=True):
        source, target = pair
        found = []
        for size, trigger in zip(sizes, triggers, strict=True):
            hard = _hardened(trigger, size) if isinstance(trigger, Patch) else trigger
            rate = moved(model, hard, pairs.images[source], source, target)
            found.append(FoundTrigger(hard, source, target, rate))
        enough = _ALMOST * max(each.rate for each in found)
        judged.append((sum(each.rate for each in found), [each for each in found if each.rate >= enough][-1]))
    return [each for _, each in sorted(judged, key=lambda one: -one[0])]


def _hardened(patch: Patch, pixels: float) -> Patch:
    """The pixels with the largest part in the mask, wholly replaced."""
    mask = torch.zeros_like(patch.mask).flatten()
    mask[patch.mask.flatten().topk(max(1, round(pixels))).indices] = 1
    return Patch(mask.view_as(patch.mask), patch.pattern.clamp(0, 1))
