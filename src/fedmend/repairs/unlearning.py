"""Unlearning: fine-tuning on images with the recovered triggers and their true labels (contrastive paper, 2.6)."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from fedmend.checked_settings import Bytes, Count, Fraction, Positive, PositiveFraction, settings
from fedmend.detection import Finding
from fedmend.detection.search.memory import allowed_memory, images_at_once
from fedmend.errors import DataError
from fedmend.evaluation import accuracy
from fedmend.inference import batch_size_for, device_of, evaluating, pixels_for
from fedmend.repairs.base import Candidate, Context
from fedmend.repairs.repair_report import UnlearningDetails
from fedmend.repairs.server_training import require_finite, server_images, shuffled, trainable
from fedmend.repairs.trigger_choice import all_triggers
from fedmend.triggers import Trigger

_MOST_LOST = 0.01


@settings
class Unlearning:
    """Fine-tune a copy of the suspect until the triggers have no effect (contrastive paper, 2.6).

    Every batch holds clean images and stamped copies, all with their true labels. A trigger is stamped on images of all
    classes, also if it was found for one source class: few images are of that class. The paper gives neither the
    fraction of stamped copies, the learning rate nor the batch size; those are ours. So are:

    - ``soft_targets``: hard labels of few images make a model overfit, while soft predictions preserve accuracy. They
      are the reference's, since a poisoned model leans towards the target class even on clean images. If the reference
      is more than a point less accurate on the images than the suspect, those of clean images are the mean of both;
      without a reference all are the suspect's.
    - ``reference_weights``: recovered triggers are never quite the planted ones. A start near the reference also
      weakens what no trigger shows. It is used only if it is at most a point less accurate on the images.
      Less is left to unlearn there, so the learning rate is multiplied by the suspect's weight.

    0 and none of them is the paper's recipe. Dropout is off, and BatchNorm keeps its statistics, since a few stamped
    images don't represent the clean data.

    Attributes:
        epochs: passes over the images; the paper's is one.
        stamped_fraction: fraction of a batch's images, in (0, 1], that get a stamped copy.
        soft_targets: weight in [0, 1] of the models' predictions on the clean images in the targets; the labels have
            the rest.
        reference_weights: weights in [0, 1] of the reference's parameters in the start, tried in turn; the suspect's
            have the rest. If none serves, the start is the suspect.
        lr: Adam's initial learning rate for a start at the suspect; it decays linearly to 0.
        batch_size: clean images per batch.
        memory: bytes that a step may take beside models and images; None for half of what is free. Where a batch would
            take more, its gradient is summed over parts of it.

    Raises:
        ConfigError: a setting is out of range.
    """

    epochs: Count = 1
    stamped_fraction: PositiveFraction = 1.0
    soft_targets: Fraction = 0.7
    reference_weights: tuple[Fraction, ...] = (0.9, 0.75)
    lr: Positive = 0.003
    batch_size: Count = 16
    memory: Bytes | None = None

    def __call__(self, suspect: nn.Module, findings: Sequence[Finding], context: Context) -> Candidate:
        """Unlearn every trigger and variant that the findings name.

        Args:
            suspect: left as found.
            findings: those without a trigger are skipped.
            context: with images and labels; a reference gives targets and, if its weights fit the suspect's, the start.

        Raises:
            DataError: no finding names a trigger; see also :meth:`fine_tuned`.
            ConfigError: the context has no images, not even one fits into the memory, or training diverged.
            ModelError: every parameter is frozen.
        """
        triggers = all_triggers(findings)
        model, weight = self._tuned(suspect, triggers, context)
        start = f", from a start with {weight:.0%} of the reference's weights" if weight else ""
        details = UnlearningDetails(context.attempt, len(triggers), weight)
        return Candidate(model, f"{_found(findings, len(triggers))} found and unlearned{start}", details)

    def fine_tuned(self, suspect: nn.Module, triggers: Sequence[Trigger], context: Context) -> nn.Module:
        """A fine-tuned copy of ``suspect``, on its device and in its modes.

        Args:
            suspect: left as found.
            triggers: to unlearn; the stamped images carry one each, in turn.
            context: see :meth:`__call__`.

        Raises:
            DataError: there is no trigger, images and labels don't match, there are none, or a label isn't one of the
                model's classes. ConfigError: the context has no images, or training diverged.
            ModelError: every parameter is frozen.
        """
        return self._tuned(suspect, triggers, context)[0]

    def _tuned(
        self, suspect: nn.Module, triggers: Sequence[Trigger], context: Context
    ) -> tuple[nn.Module, float]:
        """The fine-tuned copy, and the reference's weight in its start."""
        if not triggers:
            raise DataError("unlearning needs a trigger; got none")
        own = server_images(suspect, context, "unlearning")
        images, labels, device = own.images, own.labels, device_of(suspect)
        model, weight = self._start(suspect, context.reference, images, labels)
        optimizer = torch.optim.Adam(trainable(model), self.lr * (1 - weight))
        batches = -(-len(images) // self.batch_size) * self.epochs
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=batches)
        done = used = 0
        teachers = _teachers(suspect, context.reference, images, labels)
        targets, stamped_targets = (
            self._targets(chosen, images, labels) for chosen in (teachers, teachers[-1:])
        )
        order = torch.Generator().manual_seed(context.seed)
        with evaluating(model):
            allowed = allowed_memory(self.memory, device)
            at_once = images_at_once([model], pixels_for(model, images[:1]), allowed)
            for indices in shuffled(len(images), self.batch_size, self.epochs, order):
                batch = indices.to(device)
                clean = pixels_for(model, images[batch])
                count = max(1, round(self.stamped_fraction * len(batch)))
                turns = [triggers[(used + index) % len(triggers)] for index in range(count)]
                stamped = [trigger.apply(clean[[index]]).to(clean) for index, trigger in enumerate(turns)]
                used += count
                optimizer.zero_grad()
                both = torch.cat([clean, *stamped]).split(at_once)
                truth = torch.cat([targets[batch], stamped_targets[batch[:count]]]).split(at_once)
                for part, wanted in zip(both, truth, strict=True):
                    share = len(part) / (len(batch) + count)
                    (share * cross_entropy(model(part), wanted)).backward()
                optimizer.step()
                schedule.step()
                done += 1
                context.progress("unlearning", done, batches)
        model.zero_grad()
        require_finite(model, "unlearning")
        return model, weight

    def _start(
        self, suspect: nn.Module, reference: nn.Module | None, images: Tensor, labels: Tensor
    ) -> tuple[nn.Module, float]:
        """A copy of the suspect, nearer to the reference if that costs no accuracy, and the latter's weight."""
        if reference is not None and _alike(suspect, reference):
            for weight in self.reference_weights:
                nearer = _mean(suspect, reference, weight)
                if _as_accurate(nearer, suspect, images, labels):
                    return nearer, weight
        return deepcopy(suspect), 0.0

    def _targets(self, teachers: Sequence[nn.Module], images: Tensor, labels: Tensor) -> Tensor:
        """Target probabilities (N, classes): the labels, mixed with the mean of the teachers' predictions."""
        predictions = []
        for model in teachers:
            with evaluating(model), torch.no_grad():
                batches = images.split(batch_size_for(images))
                predictions.append(
                    torch.cat([model(pixels_for(model, batch)).softmax(1) for batch in batches])
                )
        soft = torch.stack(predictions).mean(0)
        return (1 - self.soft_targets) * one_hot(labels, soft.shape[1]) + self.soft_targets * soft


def _found(findings: Sequence[Finding], triggers: int) -> str:
    """What was found, in words, up to its verb."""
    named = [each for finding in findings for each in finding.targets if each.trigger is not None]
    aims = {(each.target, each.sources) for each in named}
    if len(aims) > 1:
        return f"{triggers} triggers for {len(aims)} targets were"
    return "A trigger was" if triggers == 1 else f"A trigger in {triggers} variants was"


def _mean(suspect: nn.Module, reference: nn.Module, weight: float) -> nn.Module:
    """A copy of the suspect whose floating-point tensors are means, in which the reference has this weight."""
    copy, there = deepcopy(suspect), reference.state_dict()
    averaged: set[int] = set()
    with torch.no_grad():
        for name, value in copy.state_dict().items():
            if value.is_floating_point() and value.data_ptr() not in averaged:  # layers may share one
                averaged.add(value.data_ptr())
                value.lerp_(there[name].to(value), weight)
    return copy


def _teachers(
    suspect: nn.Module, reference: nn.Module | None, images: Tensor, labels: Tensor
) -> list[nn.Module]:
    """The models whose predictions on clean images are learned; the last one's are on stamped ones, too."""
    if reference is None:
        return [suspect]
    return [reference] if _as_accurate(reference, suspect, images, labels) else [suspect, reference]


def _as_accurate(model: nn.Module, suspect: nn.Module, images: Tensor, labels: Tensor) -> bool:
    """Whether a model is at most a point less accurate than the suspect."""
    lost = accuracy(suspect, images, labels) - accuracy(model, images, labels)
    return lost <= _MOST_LOST + 1e-9  # 1.0 - 0.99 is a little more than 0.01


def _alike(first: nn.Module, second: nn.Module) -> bool:
    """Whether two models have the same tensors, so that their weights can be averaged."""
    shapes = [{name: value.shape for name, value in model.state_dict().items()} for model in (first, second)]
    return shapes[0] == shapes[1]


def unlearn(suspect: nn.Module, trigger: Trigger, images: Tensor, labels: Tensor, seed: int = 0) -> nn.Module:
    """Unlearn one trigger with the default settings, for one epoch; see :meth:`Unlearning.fine_tuned`."""
    return Unlearning().fine_tuned(suspect, [trigger], Context(images=images, labels=labels, seed=seed))
