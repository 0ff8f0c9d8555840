"""Self-distillation: fine-tuning that keeps clean predictions and unlearns the triggers that clients found.

The federated-pruning paper fine-tunes on labels (4.4). With non-IID clients that costs accuracy, and a backdoor that
clean images don't activate survives. Here honest clients self-distil: on stamped or noisy copies the model must match
the suspect's clean predictions, so non-IID labels cannot bias it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_

from fedmend.checked_settings import Fraction, NonNegative, Positive, settings
from fedmend.errors import DataError, DivergedError
from fedmend.inference import evaluating
from fedmend.local_training import BelowOne, LocalTraining, noisy
from fedmend.pixels import to_float
from fedmend.seeds import seeded


@settings
class Distillation:
    """How honest clients self-distil. The defaults were tuned on federations without reported results.

    Attributes:
        lr: SGD's learning rate in the first round.
        decay: factor of the learning rate from round to round.
        temperature: divides the logits before they are compared, so that small shifts matter.
        disturbed_weight: weight of the loss on disturbed copies; the loss on the images themselves has weight 1.
        max_gradient: norm to which a batch's gradient is clipped; a prediction flipped by a trigger has a large one.
        stamped_fraction: fraction of the copies, in [0, 1], that carry a trigger; the others carry noise.
        pixel_noise: the largest fraction, in [0, 1), of an image's pixels that noise replaces.

    Raises:
        ConfigError: a setting is out of range.
    """

    lr: Positive = 0.1
    decay: Positive = 0.8
    temperature: Positive = 2.0
    disturbed_weight: NonNegative = 4.0
    max_gradient: Positive = 2.0
    stamped_fraction: Fraction = 0.7
    pixel_noise: BelowOne = 0.1


@dataclass(frozen=True, eq=False)
class DistillationTask:
    """What honest clients do in a round of self-distillation; a :class:`~fedmend.federation.Task`.

    Attributes:
        training: epochs, batch size and images per epoch; also the attackers' training.
        settings: how to distil. lr: the round's learning rate.
        teacher: the suspect, whose clean predictions are the distillation targets.
        kept, added: the triggers that clients found, (n, 1, H, W) and (n, C, H, W); n may be 0. A trigger turns an
            image x into ``kept * x + added``, clamped to [0, 1].
        weights: of each trigger in the draw, (n,), unnormalised.
    """

    training: LocalTraining
    settings: Distillation
    lr: float
    teacher: nn.Module
    kept: Tensor
    added: Tensor
    weights: Tensor

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> None:
        """Train ``model`` in place; labels are not used.

        The loss is the cross entropy, at a temperature, between the predictions on the images and on disturbed copies,
        and the teacher's on the images. A copy carries a random part of one trigger's pixels, or noise. Dropout is
        off, and BatchNorm keeps its statistics. The global random generators are left as found.

        Args:
            model: on the images' device.
            images: uint8 (N, C, H, W).
            labels: any.
            seed: of all randomness.

        Raises:
            DataError: there are no images. DivergedError: the loss became NaN or infinite.
        """
        if len(images) == 0:
            raise DataError("fine-tuning needs images, 1 or more; got none")
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.SGD(parameters, self.lr)
        loss = torch.zeros(())
        with (
            seeded(seed, images.device),
            evaluating(self.teacher),
            evaluating(model),
        ):
            for _ in range(self.training.epochs):
                order = torch.randperm(len(images))[: self.training.images_per_epoch].to(images.device)
                for batch in order.split(self.training.batch_size):
                    optimizer.zero_grad()
                    loss = self._loss(model, to_float(images[batch]))
                    (self.settings.temperature * loss).backward()
                    clip_grad_norm_(parameters, self.settings.max_gradient)
                    optimizer.step()
        if not bool(loss.isfinite()):
            raise DivergedError("fine-tuning diverged: the loss is NaN or infinite; try a smaller lr")

    def _loss(self, model: nn.Module, clean: Tensor) -> Tensor:
        temperature = self.settings.temperature
        with torch.no_grad():
            targets = (self.teacher(clean.clone()) / temperature).softmax(1)
        logits = model(torch.cat([clean, self._disturbed(clean)])) / temperature
        on_clean, on_disturbed = logits.split(len(clean))
        return cross_entropy(on_clean, targets) + self.settings.disturbed_weight * cross_entropy(
            on_disturbed, targets
        )

    def _disturbed(self, clean: Tensor) -> Tensor:
        settings = self.settings
        noise = noisy(clean, settings.pixel_noise) if settings.pixel_noise else clean
        if len(self.weights) == 0:
            return noise
        count = len(clean)
        chosen = torch.multinomial(self.weights, count, replacement=True)
        part = torch.rand(count, 1, 1, 1, device=clean.device).sqrt()
        taken = torch.rand_like(clean[:, :1]) < part
        stamped = torch.where(taken, self.kept[chosen] * clean + self.added[chosen], clean).clamp(0, 1)
        return torch.where(
            torch.rand(count, 1, 1, 1, device=clean.device) < settings.stamped_fraction, stamped, noise
        )
