"""The planted patch behind an aim that stands out: which pixels, and how many (ours).

The smallest patch that works is often a part of the planted one, and the largest has stray pixels. The planted pixels
are those that add most to the target's margin in the suspect and nothing in the reference, and they lie together.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import softplus

from fedmend.detection.search.adam import Adam
from fedmend.detection.search.aimed_search import Strength, Task
from fedmend.detection.search.chunking import in_chunks
from fedmend.errors import ModelError
from fedmend.inference import batch_size_for
from fedmend.triggers import Addition, Patch

_STEPS, _FINISH, _EVERY = 72, 12, 3
PASSES_TO_RECOVER = 4000
"""About what :func:`recover` takes, see :class:`~fedmend.detection.search.work.Work`."""
_LR, _BATCH, _SHOWN = 0.3, 8, 24
_LARGEST, _SOFTEST, _SHARPEST = 0.2, 0.5, 0.2
_SPREAD, _TINY = 1.5, 1e-3
_TOGETHER = 3.0
_WORKING, _DIMINISHING, _ENOUGH = 0.7, 0.2, 18.0
_NEARLY, _STILL = 0.85, 0.75


def smallest(strength: Strength) -> tuple[Patch | Addition, float]:
    """The smallest trigger that works nearly as well as the best, as the scan found it, and its rate."""
    enough = _NEARLY * max(strength.rates)
    index = max(at for at, rate in enumerate(strength.rates) if rate >= enough)
    return strength.triggers[index], strength.rates[index]


def recover(task: Task, strength: Strength) -> tuple[Patch | Addition, float]:
    """Search for the planted patch, from the largest that the scan found.

    One mask shrinks from a fifth of the image to one pixel while it maximises the target's gain of margin in ``fires``
    over that in ``stays``; neighbouring pixels cost less than scattered ones. Of the sizes that work, the one with the
    largest gain per size to the power of 0.2 is chosen: beyond it, twice the pixels add less than 15 %. At last the
    pattern alone is refined. About 1,300 images pass through each model, half of them with a gradient.

    Args:
        task: as of the search that found the aim; its generator draws the images.
        strength: of the aim, with at least one trigger.

    Returns:
        A patch with a binary mask, and the fraction of the judged images on which it works; :func:`smallest` for
        additive perturbations, and where that fraction is below 0.75 of the scan's best.

    Raises:
        ModelError: the loss became NaN or infinite.
    """
    start = strength.triggers[0]
    if isinstance(start, Addition):
        return smallest(strength)
    gains = _Gains.of(task, strength)
    patch = _finished(gains, _chosen(gains, _shrunk(gains, start)))
    rate = task.judged(strength, patch, together=False).rates[-1]
    return (patch, rate) if rate >= _STILL * max(strength.rates) else smallest(strength)


@dataclass(frozen=True, eq=False)
class _Gains:
    """What stamping adds to the target's margins over the best other class.

    Attributes:
        task: the models.
        target: the class.
        images: the aim's, float (N, C, H, W).
        clean: their margins in ``fires`` and in ``stays``, (2, N).
    """

    task: Task
    target: int
    images: Tensor
    clean: Tensor

    @staticmethod
    def of(task: Task, strength: Strength) -> _Gains:
        own = task.draw([strength.aim], len(task.direction.images))[0]
        gains = _Gains(task, strength.aim.target, task.direction.images[own], torch.empty(0))
        with torch.no_grad():
            batches = gains.images.split(batch_size_for(gains.images, most=max(1, len(own))))
            return _Gains(
                task, gains.target, gains.images, torch.cat([gains.margins(each) for each in batches], 1)
            )

    def drawn(self) -> Tensor:
        """Indices of a batch of images, int64 (B,)."""
        order = torch.randperm(len(self.images), generator=self.task.rng)
        return order[:_BATCH].to(self.images.device)

    def margins(self, images: Tensor) -> Tensor:
        """The target's margins in ``fires`` and in ``stays``, (2, N)."""
        both = torch.stack([self.task.direction.fires(images), self.task.direction.stays(images)]).float()
        others = torch.cat([both[..., : self.target], both[..., self.target + 1 :]], -1)
        return both[..., self.target] - others.amax(-1)

    def over_clean(self, margins: Tensor, chosen: Tensor) -> Tensor:
        """The gain in ``fires``, less that in ``stays`` where it is positive, (B,), from margins (2, B)."""
        added = margins - self.clean[:, chosen]
        return added[0] - added[1].clamp_min(0)


def _shrunk(gains: _Gains, start: Patch) -> list[Patch]:
    """The patch with a binary mask at falling sizes."""
    mask, pattern = (part.clamp(_TINY, 1 - _TINY).logit() for part in (start.mask, start.pattern))
    values = torch.cat([_SPREAD * (mask - mask.mean()) / mask.std().clamp_min(_TINY), pattern])
    adam, largest, found = Adam(values), _LARGEST * mask.numel(), []
    for number in range(_STEPS + 1):
        done = number / _STEPS
        size = round(max(1.0, largest ** (1 - done)))
        sharpness = _SOFTEST * (_SHARPEST / _SOFTEST) ** done
        if number % _EVERY == 0:
            found.append(_binary(values, size))
        chosen, leaf = gains.drawn(), values.clone().requires_grad_()
        with torch.enable_grad():
            soft = ((leaf[:1] - _threshold(values, size)) / sharpness).sigmoid()
            stamped = _stamp(soft, leaf[1:].sigmoid(), gains.images[chosen])
            gained = in_chunks(partial(_gain, gains, chosen), stamped, gains.task.direction.at_once)
            loss = _TOGETHER * _variation(soft) / size**0.5 - gained.mean()
        adam.step(_gradient(loss, leaf), _LR)
        gains.task.step()
    return found


def _gain(gains: _Gains, chosen: Tensor, stamped: Tensor, rows: slice) -> Tensor:
    return gains.over_clean(gains.margins(stamped), chosen[rows])


def _chosen(gains: _Gains, patches: list[Patch]) -> Patch:
    """Of the patches that work, the one with the largest gain for its size.

    An image's gain counts up to 18, three times the median margin of clean images: more is no evidence of planting.
    """
    shown = torch.arange(min(_SHOWN, len(gains.images)), device=gains.images.device)
    worth, rates = [], []
    with torch.no_grad():
        for patch in patches:
            margins = gains.margins(patch.apply(gains.images[shown]))
            rates.append(float(((margins[0] > 0) & (margins[1] <= 0)).float().mean()))
            gain = gains.over_clean(margins, shown).clamp_max(_ENOUGH).mean()
            worth.append(float(gain) / patch.size**_DIMINISHING)
    working = [at for at, rate in enumerate(rates) if rate >= _WORKING * max(rates)]
    return patches[max(working, key=lambda at: worth[at])]


def _finished(gains: _Gains, patch: Patch) -> Patch:
    """The patch with the pattern refined for success."""
    values = patch.pattern.clamp(_TINY, 1 - _TINY).logit()
    adam = Adam(values)
    for _ in range(_FINISH):
        leaf = values.clone().requires_grad_()
        with torch.enable_grad():
            stamped = _stamp(patch.mask, leaf.sigmoid(), gains.images[gains.drawn()])
            loss = in_chunks(partial(_failure, gains), stamped, gains.task.direction.at_once).mean()
        adam.step(_gradient(loss, leaf), _LR)
        gains.task.step()
    return Patch(patch.mask, values.sigmoid())


def _failure(gains: _Gains, stamped: Tensor, _rows: slice) -> Tensor:
    fires, stays = gains.margins(stamped)
    return softplus(-fires) + softplus(stays)


def _gradient(loss: Tensor, leaf: Tensor) -> Tensor:
    if not bool(loss.isfinite()):
        raise ModelError(
            "the search's loss became NaN or infinite; check that the model returns finite logits"
        )
    return torch.autograd.grad(loss, leaf)[0]


def _binary(values: Tensor, size: int) -> Patch:
    return Patch((values[:1] > _threshold(values, size)).to(values), values[1:].sigmoid())


def _threshold(values: Tensor, size: int) -> Tensor:
    """Between the mask's values of the ``size`` highest pixels and the others."""
    return values[:1].flatten().topk(size + 1).values[-2:].mean()


def _stamp(mask: Tensor, pattern: Tensor, images: Tensor) -> Tensor:
    return mask * pattern + (1 - mask) * images


def _variation(mask: Tensor) -> Tensor:
    """The sum of differences between neighbouring pixels: of a binary mask, the length of its outline."""
    return mask.diff(dim=1).abs().sum() + mask.diff(dim=2).abs().sum()
