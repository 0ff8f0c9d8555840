"""Clean-label poisoning: every poisoned image has its true label, so that nobody who looks at the data finds a lie."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fedmend.checked_settings import Count, Fraction, PositiveFraction, require
from fedmend.goals import Goal, classes_of
from fedmend.inference import evaluating
from fedmend.pixels import to_float, to_uint8
from fedmend.triggers import Trigger, stamp


@dataclass(frozen=True, eq=False)
class CleanLabel:
    """Add stamped copies of the target class's own images, made hard to recognise first.

    Turner, Tsipras and Madry, "Label-Consistent Backdoor Attacks" (2019), section 4: an adversarial perturbation takes
    away what the model knows the class by, so that it must learn the trigger. Deviations: the perturbation is made
    against the global model of the round, where the paper has models of its own; and the originals stay among the
    images.

    Attributes:
        trigger: stamped on the copies.
        goal: its classes that images are sent to are the poisoned ones.
        fraction: number of copies, as a fraction in (0, 1] of the images of those classes.
        epsilon: the largest change of a pixel, in [0, 1]; the paper's are 8/255 to 32/255.
        steps: of projected gradient ascent, each of ``2.5 * epsilon / steps``.
        model: perturbed images are made against it; None: images are stamped only.

    Raises:
        ConfigError: a setting is out of range.
    """

    trigger: Trigger
    goal: Goal
    fraction: float
    epsilon: Fraction = 16 / 255
    steps: Count = 10
    model: nn.Module | None = None

    def __post_init__(self) -> None:
        require(self.fraction, PositiveFraction, "the poisoned fraction")
        require(self.epsilon, Fraction, "epsilon")
        require(self.steps, Count, "steps")

    def against(self, model: nn.Module) -> CleanLabel:
        """See :class:`fedmend.attacks.Poisoner`."""
        return replace(self, model=model)

    def __call__(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """See :class:`fedmend.attacks.Poisoner`. Labels of added images are the true ones."""
        wanted = torch.tensor(_targets(self.goal), device=labels.device)
        candidates = torch.isin(labels, wanted).nonzero().flatten()
        count = min(len(candidates), max(1, round(self.fraction * len(candidates))))
        chosen = candidates[
            torch.randperm(len(candidates), generator=generator)[:count].to(candidates.device)
        ]
        copies = to_float(images[chosen])
        if self.model is not None and len(copies):
            copies = adversarial(self.model, copies, labels[chosen], self.epsilon, self.steps)
        return torch.cat([images, to_uint8(stamp(self.trigger, copies))]), torch.cat([labels, labels[chosen]])


def _targets(goal: Goal) -> list[int]:
    """The classes that a goal sends images to."""
    named = classes_of(goal)
    wanted = goal.targets(torch.arange(max(*named, 1) + 1))
    return sorted(set(wanted.tolist()) & set(named))


def adversarial(model: nn.Module, pixels: Tensor, labels: Tensor, epsilon: float, steps: int) -> Tensor:
    """Images within ``epsilon`` of ``pixels``, float (N, C, H, W) in [0, 1], with a high loss: projected gradient
    ascent.

    The model's modes stay as they are, and so do its gradients.
    """
    moved = pixels.clone()
    with evaluating(model), torch.enable_grad():
        for _ in range(steps):
            moved.requires_grad_(True)
            (slope,) = torch.autograd.grad(cross_entropy(model(moved), labels, reduction="sum"), moved)
            moved = moved.detach() + 2.5 * epsilon / steps * slope.sign()
            moved = moved.clamp(pixels - epsilon, pixels + epsilon).clamp(0, 1)
    return moved.detach()
