"""Adversarial neuron pruning (ANP): prune the channels that are most sensitive to perturbations of their weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from fedmend.checked_settings import Count, Fraction, Positive, settings
from fedmend.detection import Finding
from fedmend.errors import ModelError
from fedmend.inference import evaluating
from fedmend.local_training import BelowOne
from fedmend.pruning import ConvLayer, locate
from fedmend.repairs.base import Candidate, Context, TriggerUse
from fedmend.repairs.repair_report import NeuronDetails
from fedmend.repairs.server_training import server_images, shuffled
from fedmend.seeds import generator


@settings
class AdversarialNeuronPruning:
    """Learn a mask of all channels that withstands perturbed weights, and prune the channels that it turns down.

    After Wu and Wang, "Adversarial Neuron Pruning Purifies Backdoored Deep Models", NeurIPS 2021. A channel k has the
    weights ``m_k w_k`` and the bias ``b_k``. Perturbed, these are ``(m_k + delta_k) w_k`` and ``(1 + xi_k) b_k`` with
    delta and xi in [-``epsilon``, ``epsilon``]. The masks, in [0, 1], minimise ``alpha`` times the clean loss plus
    1 - ``alpha`` times the loss under the worst perturbation (Eq. 4 and 5). The worst is sought by one step of the
    gradient's sign. Then the weights of channels whose mask is below ``threshold`` are set to zero; biases stay.

    ``w`` and ``b`` are those of the normalisation that follows a convolution, if it has any; without one, those of the
    convolution itself. Deviations: BatchNorm keeps its statistics, and dropout is off.

    Attributes:
        epsilon: largest perturbation, relative to a channel's weights. The defaults are the paper's, but for the steps.
        alpha: weight in [0, 1] of the clean loss.
        threshold: channels whose mask is below this are pruned.
        steps: of the masks' optimizer, SGD; the paper's are 2,000. batch_size: images per step.
        lr: its learning rate. momentum: its momentum.

    Raises:
        ConfigError: a setting is out of range.
    """

    epsilon: Positive = 0.4
    alpha: Fraction = 0.2
    threshold: Fraction = 0.2
    steps: Count = 500
    batch_size: Count = 128
    lr: Positive = 0.2
    momentum: BelowOne = 0.9

    trigger_use: ClassVar[TriggerUse] = "none"

    def __call__(self, suspect: nn.Module, findings: Sequence[Finding], context: Context) -> Candidate:
        """Prune, whatever was found; see :class:`fedmend.repairs.base.Repair`.

        Raises:
            DataError: labels don't match the images, or a label isn't one of the model's classes.
            ConfigError: the context has no images.
            ModelError: the model has no convolution whose channels can be masked.
        """
        own = server_images(suspect, context, "adversarial neuron pruning")
        model = deepcopy(suspect)
        pixels = own.pixels(model)
        masked = MaskedModel(model, masked_channels(model, pixels[:1]))
        masks = self.masks(masked, pixels, own.labels, context)
        pruned = {}
        with torch.no_grad():
            for each, mask in zip(masked.channels, masks, strict=True):
                dropped = (mask < self.threshold).nonzero().flatten()
                model.get_parameter(each.weight)[dropped] = 0
                if len(dropped):
                    pruned[each.layer] = tuple(dropped.tolist())
        number, total = sum(map(len, pruned.values())), sum(map(len, masks))
        summary = f"{number} of {total} channels were pruned"
        return Candidate(model, summary, NeuronDetails(pruned, total))

    def masks(self, masked: MaskedModel, pixels: Tensor, labels: Tensor, context: Context) -> list[Tensor]:
        """The learned masks, (C,) in [0, 1], one for each of the model's layers.

        Args:
            masked: left as found.
            pixels: (N, C, H, W), as the model takes them. labels: int64 (N,).
            context: gives the seed, and takes the progress.
        """
        masks = [scale.new_ones(len(scale), requires_grad=True) for scale in masked.scales]
        optimizer = torch.optim.SGD(masks, self.lr, momentum=self.momentum)
        batches = self._batches(len(pixels), context.seed)
        with evaluating(masked.model):
            for done in range(1, self.steps + 1):
                batch = next(batches).to(pixels.device)
                data = pixels[batch], labels[batch]
                start = [(_zeros(mask), _zeros(mask)) for mask in masks]
                fixed = [mask.detach() for mask in masks]
                clean = shift_gradients(masked.loss(fixed, start, *data), start)
                worst = [
                    (self.epsilon * first.sign(), self.epsilon * second.sign()) for first, second in clean
                ]
                pushed = torch.autograd.grad(masked.loss(masks, worst, *data), masks)
                for mask, (gentle, _), hard in zip(masks, clean, pushed, strict=True):
                    # The loss depends on m + delta, so at delta = 0 both have the same gradient.
                    mask.grad = self.alpha * gentle + (1 - self.alpha) * hard
                optimizer.step()
                with torch.no_grad():
                    for mask in masks:
                        mask.clamp_(0, 1)
                context.progress("adversarial neuron pruning", done, self.steps)
        return [mask.detach() for mask in masks]

    def _batches(self, count: int, seed: int) -> Iterator[Tensor]:
        rng = generator(seed, "batches")
        while True:
            yield from shuffled(count, self.batch_size, 1, rng)


Shifts: TypeAlias = Sequence[tuple[Tensor, Tensor]]
"""delta and xi, (C,) each, for every layer."""


@dataclass(frozen=True)
class Channels:
    """The output channels of a convolution.

    Attributes:
        layer: its name. weight, bias: names of the parameters that scale and shift a channel; a bias may be None.
    """

    layer: str
    weight: str
    bias: str | None


def masked_channels(model: nn.Module, images: Tensor) -> list[Channels]:
    """The channels of every convolution that runs, by the normalisation that follows it or, without one, its own.

    Args:
        model: left as found. images: one or more, (N, C, H, W).

    Raises:
        ModelError: there is none.
    """
    found: dict[str, Channels] = {}
    for name, module in model.named_modules():
        if not isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            continue
        try:
            layer = locate(model, images, name)
        except ModelError:  # it doesn't run, or its weight is computed from other parameters
            continue
        channels = _of_layer(layer)
        found.setdefault(channels.weight, channels)
    if not found:
        raise ModelError("adversarial neuron pruning needs a model with convolutions; this one runs none")
    return list(found.values())


def _of_layer(layer: ConvLayer) -> Channels:
    for name, norm in reversed(layer.norms.items()):
        names = [kind for kind, _ in norm.named_parameters(recurse=False)]
        if "weight" in names:
            return Channels(layer.name, f"{name}.weight", f"{name}.bias" if "bias" in names else None)
    bias = None if layer.convolution.bias is None else f"{layer.name}.bias"
    return Channels(layer.name, f"{layer.name}.weight", bias)


@dataclass(frozen=True, eq=False)
class MaskedModel:
    """A model, left as found, and the channels that masks and perturbations act on."""

    model: nn.Module
    channels: Sequence[Channels]

    @property
    def scales(self) -> list[Tensor]:
        """Each layer's ``w``, (C, ...)."""
        return [self.model.get_parameter(each.weight).detach() for each in self.channels]

    def changed(self, masks: Sequence[Tensor], shifts: Shifts) -> dict[str, Tensor]:
        """The parameters that differ: ``(m + delta) w`` and ``(1 + xi) b`` (Eq. 4)."""
        parameters = {}
        for each, scale, mask, (delta, xi) in zip(self.channels, self.scales, masks, shifts, strict=True):
            parameters[each.weight] = (mask + delta).view(-1, *[1] * (scale.ndim - 1)) * scale
            if each.bias is not None:
                parameters[each.bias] = (1 + xi) * self.model.get_parameter(each.bias).detach()
        return parameters

    def loss(self, masks: Sequence[Tensor], shifts: Shifts, pixels: Tensor, labels: Tensor) -> Tensor:
        """The mean loss with these parameters, a scalar."""
        logits = functional_call(self.model, self.changed(masks, shifts), (pixels.clone(),))
        return cross_entropy(logits, labels)


def _zeros(mask: Tensor) -> Tensor:
    return torch.zeros_like(mask, requires_grad=True)


def shift_gradients(loss: Tensor, shifts: Shifts) -> list[tuple[Tensor, Tensor]]:
    """The gradient of a scalar at each delta and xi; zero where a shift has no effect."""
    flat = [shift for pair in shifts for shift in pair]
    gradients = torch.autograd.grad(loss, flat, allow_unused=True, materialize_grads=True)
    return list(zip(gradients[::2], gradients[1::2], strict=True))
