"""Whether a trigger that was searched for one source class is for that class alone (ours)."""

from __future__ import annotations

import torch

from fedmend.detection.search.aimed_search import Strength, Task
from fedmend.detection.search.aims import Aim, admitted

_MOST = 96


def specificity(task: Task, strength: Strength) -> float:
    """Which part of a pair's strength its trigger lacks on images of other classes, at most 1.

    The trigger of a backdoor for all classes works on other classes' images, too, though the search saw those of one
    class only. Of a backdoor for one source class, hardly any does.

    Args:
        task: as of the search that found the pair; its generator draws the images, at most 96.
        strength: of a pair of classes.

    Returns:
        1 minus the trigger's strength on other classes as a fraction of that on the source; 0 where there is nothing
        to compare.
    """
    direction, aim = task.direction, strength.aim
    (others,) = admitted([Aim(aim.target)], direction.kept, direction.before)
    indices = (others & (direction.kept != aim.source)).nonzero().flatten()
    if not len(indices) or not strength.total:
        return 0.0
    order = torch.randperm(len(indices), generator=task.rng)[:_MOST]
    elsewhere = Strength(aim, (), (), indices[order.to(indices.device)])
    for trigger in strength.triggers:
        elsewhere = task.judged(elsewhere, trigger, together=False)
    return 1 - elsewhere.total / strength.total
