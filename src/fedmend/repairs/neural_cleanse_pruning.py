"""Neural Cleanse's neuron pruning: the neurons before the last layer that the reversed trigger excites most."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from fedmend.checked_settings import Fraction, settings
from fedmend.detection import Finding, Target
from fedmend.errors import ConfigError, ModelError
from fedmend.inference import batch_size_for, evaluating
from fedmend.repairs.base import Candidate, Context, TriggerUse
from fedmend.repairs.repair_report import NeuronDetails
from fedmend.repairs.server_training import server_images
from fedmend.repairs.trigger_choice import first_targets
from fedmend.triggers import Trigger, stamp


@settings
class NeuralCleansePruning:
    """Prune the neurons whose activation a reversed trigger raises most, until the trigger stops working.

    After Wang et al., "Neural Cleanse: Identifying and Mitigating Backdoor Attacks in Neural Networks", IEEE S&P 2019,
    section VI. The neurons are the inputs of the model's last linear layer. The paper sets their output to zero at
    inference; here their weights in the last layer are set to zero, which gives the same logits.

    The paper prunes until the model no longer responds to the trigger, without a number. Where the first finding names
    several targets, each one's trigger is treated in turn.

    Attributes:
        max_success: a trigger has stopped working once it sends at most this fraction of the images, in [0, 1], to its
            target; images that belong there don't count.

    Raises:
        ConfigError: a setting is out of range.
    """

    max_success: Fraction = 0.05

    trigger_use: ClassVar[TriggerUse] = "one"

    def __call__(self, suspect: nn.Module, findings: Sequence[Finding], context: Context) -> Candidate:
        """Prune against the first finding's triggers; see :class:`fedmend.repairs.base.Repair`.

        Raises:
            DataError: no finding names a trigger, labels don't match the images, or a label isn't one of the model's
                classes. ConfigError: the context has no images, or none that the trigger should move.
            ModelError: the model's last layer is no linear one, or its weight is computed from other parameters.
        """
        named = first_targets(findings)
        own = server_images(suspect, context, "neuron pruning")
        model = deepcopy(suspect)
        pixels = own.pixels(model)
        pruned: list[int] = []
        warnings: list[str] = []
        head = last_layer(model, pixels)
        if "weight" not in dict(head.layer.named_parameters(recurse=False)):
            raise ModelError(
                f"the weight of the last layer, {head.name}, is computed from other parameters, as by weight_norm, so "
                "that its neurons can't be pruned; remove that first, or choose another repair"
            )
        clean = head.inputs
        for done, (target, trigger) in enumerate(named, start=1):
            images = _moved(target, own.labels)
            if not bool(images.any()):
                raise ConfigError(
                    f"no image is of a class that the trigger should move to class {target.target}; give images of "
                    "other classes"
                )
            stamped = last_layer(model, _stamped(trigger, pixels)).inputs
            order = by_gap(clean, stamped)
            success = success_along(stamped[images], head.layer, order, target.target)
            enough = (success <= self.max_success).nonzero()
            count = int(enough[0]) if len(enough) else int(success.argmin())
            if not len(enough):
                warnings.append(
                    f"whatever is pruned, the trigger still sends {float(success.min()):.0%} of the images to class "
                    f"{target.target}"
                )
            pruned += order[:count].tolist()
            with torch.no_grad():
                head.layer.weight[:, order[:count]] = 0
            context.progress("neuron pruning", done, len(named))
        numbers = tuple(sorted(set(pruned)))
        return Candidate(
            model,
            f"{len(numbers)} of {clean.shape[1]} neurons before the last layer were pruned",
            NeuronDetails({head.name: numbers} if numbers else {}, clean.shape[1]),
            warnings=tuple(warnings),
        )


@dataclass(frozen=True, eq=False)
class LastLayer:
    """A model's last linear layer.

    Attributes:
        name, layer: of the model's own; inputs: what it was given for some images, (N, neurons).
    """

    name: str
    layer: nn.Linear
    inputs: Tensor


def last_layer(model: nn.Module, pixels: Tensor) -> LastLayer:
    """The linear layer that gives a model's predictions, and its inputs for these images.

    Args:
        model: left as found. pixels: (N, C, H, W), as the model takes them.

    Raises:
        ModelError: the predictions aren't those of a linear layer.
    """
    calls: list[tuple[str, nn.Linear, Tensor, Tensor]] = []

    def noting(name: str) -> object:
        return lambda module, inputs, output: calls.append((name, module, inputs[0], output))

    handles = [
        module.register_forward_hook(noting(name))  # type: ignore[arg-type]
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    ]
    inputs: list[Tensor] = []
    try:
        with evaluating(model), torch.no_grad():
            for batch in pixels.split(batch_size_for(pixels)):
                calls.clear()
                logits = model(batch.clone())
                if not calls or calls[-1][3].shape != logits.shape or calls[-1][2].ndim != 2:
                    raise ModelError(
                        "expected a model whose last layer is linear; its predictions come from another kind of layer"
                    )
                if not torch.equal(calls[-1][3].argmax(1), logits.argmax(1)):
                    raise ModelError(
                        f"expected a model whose predictions are those of its last linear layer, {calls[-1][0]}; "
                        "something after it changes them"
                    )
                inputs.append(calls[-1][2])
    finally:
        for handle in handles:
            handle.remove()
    return LastLayer(calls[-1][0], calls[-1][1], torch.cat(inputs))


def by_gap(clean: Tensor, stamped: Tensor) -> Tensor:
    """Neurons in the order to prune them: the one whose mean activation the trigger raises most first, int64 (F,).

    Args:
        clean, stamped: activations (N, F) on the same images without and with the trigger.
    """
    return (stamped.mean(0) - clean.mean(0)).argsort(descending=True, stable=True)


@torch.no_grad()
def success_along(stamped: Tensor, layer: nn.Linear, order: Tensor, target: int) -> Tensor:
    """The fraction of stamped images that go to the target after 0, 1, ..., F neurons are pruned, (F + 1,).

    Args:
        stamped: the layer's inputs, (N, F). order: neurons, int64 (F,), the first to prune first.
    """
    logits = layer(stamped)
    rates = [(logits.argmax(1) == target).double().mean()]
    for neuron in order.tolist():
        logits = logits - stamped[:, neuron, None] * layer.weight[:, neuron]
        rates.append((logits.argmax(1) == target).double().mean())
    return torch.stack(rates)


def _moved(target: Target, labels: Tensor) -> Tensor:
    """Which images a target's trigger should move, bool (N,)."""
    if target.sources:
        return torch.isin(labels, torch.tensor(target.sources, device=labels.device))
    return labels != target.target


def _stamped(trigger: Trigger, pixels: Tensor) -> Tensor:
    return torch.cat([stamp(trigger, batch) for batch in pixels.split(batch_size_for(pixels))])
