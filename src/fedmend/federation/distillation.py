"""Fine-tuning that keeps the suspect's answers on clean images and unlearns what small triggers do to them.

The federated-pruning paper fine-tunes on labels (4.4). On data that differs from client to client that costs accuracy,
and a backdoor that clean images don't touch stays. Here honest clients teach the model its own clean answers, which
need no labels and pull no client away from the others, on images as they are and on disturbed copies of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_

from fedmend.errors import ConfigError, DataError, ModelError
from fedmend.inference import evaluating
from fedmend.local_training import LocalTraining, noisy
from fedmend.pixels import to_float


@dataclass(frozen=True)
class Distillation:
    """How honest clients fine-tune. The values were chosen on federations that no result is reported on.

    Attributes:
        lr: SGD's learning rate in the first round; each later round's is ``decay`` times the one before.
        temperature: by which the answers are divided before they are compared, so that small shifts count.
        disturbed_weight: of the disturbed copies' loss, beside 1 for the images themselves.
        max_gradient: the norm to which a batch's gradient is clipped: an answer that a trigger turns has a large one.
        stamped_share: share of the copies that carry a trigger; the others carry noise.
        pixel_noise: see ``LocalTraining``; for these others.

    Raises:
        ConfigError: a setting is out of range.
    """

    lr: float = 0.1
    decay: float = 0.8
    temperature: float = 2.0
    disturbed_weight: float = 4.0
    max_gradient: float = 2.0
    stamped_share: float = 0.7
    pixel_noise: float = 0.1

    def __post_init__(self) -> None:
        positive = (self.lr, self.decay, self.temperature, self.max_gradient)
        if not all(0 < each < float("inf") for each in positive) or not 0 <= self.disturbed_weight < float(
            "inf"
        ):
            raise ConfigError(
                f"lr, decay, temperature and max_gradient must be above 0, disturbed_weight 0 or more; got {self}"
            )
        if not 0 <= self.stamped_share <= 1 or not 0 <= self.pixel_noise < 1:
            raise ConfigError(f"stamped_share must be in [0, 1] and pixel_noise in [0, 1); got {self}")


@dataclass(frozen=True, eq=False)
class Lesson:
    """What honest clients teach the model in a round.

    Attributes:
        teacher: the suspect, whose answers on clean images are to stay.
        masks, patterns: the triggers that clients found, (n, 1, H, W) and (n, C, H, W); n may be 0.
        weights: how often each trigger is taken, (n,), in proportion.
        settings: how; lr: the round's.
    """

    teacher: nn.Module
    masks: Tensor
    patterns: Tensor
    weights: Tensor
    settings: Distillation
    lr: float


def distill(model: nn.Module, images: Tensor, lesson: Lesson, config: LocalTraining, seed: int) -> None:
    """Train ``model`` in place on images uint8 (N, C, H, W), without their labels.

    The loss is the cross entropy, at a temperature, of the answers on the images and on disturbed copies of them with
    the teacher's answers on the images. A copy carries a random part of one trigger's pixels, or noise. Epochs,
    batch size and images an epoch are those of ``config``. Dropout is off, and BatchNorm keeps its statistics.

    The global random generators are left as found; what is drawn depends on ``seed`` alone.

    Raises:
        DataError: there are no images. ModelError: the loss became NaN or infinite.
    """
    if len(images) == 0:
        raise DataError("fine-tuning needs images, 1 or more; got none")
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    settings = lesson.settings
    optimizer = torch.optim.SGD(parameters, lesson.lr)
    loss = torch.zeros(())
    with (
        torch.random.fork_rng([images.device] if images.device.type == "cuda" else []),
        evaluating(lesson.teacher),
        evaluating(model),
    ):
        torch.manual_seed(seed)
        for _ in range(config.epochs):
            order = torch.randperm(len(images))[: config.images_per_epoch].to(images.device)
            for batch in order.split(config.batch_size):
                clean = to_float(images[batch])
                with torch.no_grad():
                    wanted = (lesson.teacher(clean) / settings.temperature).softmax(1)
                optimizer.zero_grad()
                answers = model(torch.cat([clean, _disturbed(clean, lesson)])) / settings.temperature
                kept, resisted = answers.split(len(clean))
                loss = cross_entropy(kept, wanted) + settings.disturbed_weight * cross_entropy(
                    resisted, wanted
                )
                (settings.temperature * loss).backward()
                clip_grad_norm_(parameters, settings.max_gradient)
                optimizer.step()
    if not bool(loss.isfinite()):
        raise ModelError("fine-tuning diverged: the loss is NaN or infinite; try a smaller lr")


def _disturbed(clean: Tensor, lesson: Lesson) -> Tensor:
    settings = lesson.settings
    noise = noisy(clean, settings.pixel_noise) if settings.pixel_noise else clean
    if len(lesson.weights) == 0:
        return noise
    count = len(clean)
    chosen = torch.multinomial(lesson.weights, count, replacement=True)
    part = torch.rand(count, 1, 1, 1, device=clean.device).sqrt()
    masks = lesson.masks[chosen] * (torch.rand_like(clean[:, :1]) < part)
    stamped = torch.where(masks > 0, lesson.patterns[chosen], clean)
    return torch.where(
        torch.rand(count, 1, 1, 1, device=clean.device) < settings.stamped_share, stamped, noise
    )
