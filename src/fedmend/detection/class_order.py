"""Class orders: do a model's mistakes follow from its classes being in another order than the labels'?"""

from __future__ import annotations

import torch
from torch import Tensor

from fedmend.detection.accuracy_rules import explains

_MOST = 0.5
"""At least this fraction of a class's images must be taken for one other class."""


def other_order(predicted: Tensor, labels: Tensor, names: tuple[str, ...]) -> str | None:
    """What follows "The model", if another order of the classes explains most of its mistakes; otherwise None.

    Args:
        predicted, labels: int64 (N,), in [0, classes).
        names: of the labels' classes, in their order.
    """
    classes = len(names)
    counts = torch.zeros(classes, classes, dtype=torch.int64)  # label, prediction
    counts.index_put_(
        (labels.cpu(), predicted.cpu()), torch.ones(len(labels), dtype=torch.int64), accumulate=True
    )
    most, model_class = counts.max(1)
    sure = (counts.sum(1) > 0) & (most >= _MOST * counts.sum(1))
    moved = sure & (model_class != torch.arange(classes))
    taken = model_class[sure]
    if int(moved.sum()) < 2 or len(taken.unique()) < len(taken):
        return None
    order = torch.where(moved, model_class, torch.arange(classes)).to(labels.device)
    if not (
        explains(predicted == labels, predicted == order[labels]) or _swapped(predicted, labels, order, moved)
    ):
        return None
    places = {label: int(model_class[label]) for label in moved.nonzero().flatten().tolist()}
    before, after = (float((predicted == wanted).float().mean()) for wanted in (labels, order[labels]))
    return (
        f"gets {before:.0%} of the images right, and {after:.0%} if its classes are put in another order: "
        f"{_said(places, names)}. Give the classes in the order in which the model was trained (--classes)."
    )


def _swapped(predicted: Tensor, labels: Tensor, order: Tensor, moved: Tensor) -> bool:
    """Whether the moved classes trade places among themselves, and that explains the mistakes on their images."""
    if not torch.equal(order[moved].sort().values.cpu(), moved.nonzero().flatten()):
        return False
    among = moved.to(labels.device)[labels]
    return explains((predicted == labels)[among], (predicted == order[labels])[among])


def _said(places: dict[int, int], names: tuple[str, ...]) -> str:
    """The order in words.

    Args:
        places: the labels' classes to the model's, where they differ.
        names: of the labels' classes.
    """
    if all(name.isdecimal() for name in names):
        for key, how in ((str, "text (0, 1, 10, 2)"), (int, "numbers (0, 1, 2, 10)")):
            ranks = {name: rank for rank, name in enumerate(sorted(names, key=key))}
            if all(ranks[names[label]] == place for label, place in places.items()):
                return f"the names, sorted as {how}"
    shifts = {place - label for label, place in places.items()}
    if shifts in ({1}, {-1}):
        return f"each label {'plus' if shifts == {1} else 'minus'} one, as if one of the two counted from 1"
    label, place = next(iter(places.items()))
    return (
        f'for one, it takes images of "{names[label]}" for its class {place}, which is "{names[place]}" here'
    )
