"""Builds built-in and user-defined architectures by name."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from fedmend.errors import ModelError
from fedmend.global_settings import GRADIENTS, settings_kept
from fedmend.inference import in_mode, logits_of, pixels_for
from fedmend.models.adapting import adapt
from fedmend.models.factories import OF_TIMM, call_factory, find_factory
from fedmend.user_code import current_folder_importable, failures_as, is_own

_NO_ARGUMENTS: Mapping[str, Any] = {}


def build_model(
    architecture: str,
    *,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
    seed: int | None = None,
    arguments: Mapping[str, Any] = _NO_ARGUMENTS,
) -> nn.Module:
    """Build a model with fresh weights, on the CPU.

    A compiled model is taken as it is before compilation, and lazy layers are initialised. A model that returns
    something other than logits, but what can be converted, gets a hook that does so (see
    :func:`fedmend.models.adapt`).

    Args:
        architecture: a name in ``ARCHITECTURES`` (hyphens and underscores alike), ``timm:NAME``, or
            ``package.module:factory``: a function or class of a package, or your own, also searched in the current
            folder. It is called with those of ``num_classes``, ``in_channels`` and ``image_size`` that it accepts by
            keyword.
        num_classes: number of logits, 2 or more.
        in_channels: channels of the images, 1 or more.
        image_size: height and width of the images in pixels.
        seed: of the initial weights; leaves torch's global generator unchanged. Without a seed, they are drawn
            from that generator.
        arguments: further arguments of the factory, by name; they take precedence.

    Raises:
        ModelError: the name is unknown, or the factory can't be imported, fails or doesn't return a module with
            weights on a device; or its code switches gradients off for everyone.
    """
    height, width = image_size
    if num_classes < 2 or in_channels < 1 or height < 1 or width < 1:
        raise ModelError(
            "a classifier needs 2 or more classes and images of 1 or more channels and pixels; "
            f"got {num_classes} classes, {in_channels} channels, {height}x{width} pixels"
        )
    settings: dict[str, Any] = {
        "num_classes": num_classes,
        "in_channels": in_channels,
        "image_size": (height, width),
    }
    with (
        settings_kept() as changed,
        nullcontext() if architecture.startswith(OF_TIMM) else current_folder_importable(architecture),
        nullcontext() if seed is None else torch.random.fork_rng(devices=[]),
    ):
        if seed is not None:
            torch.default_generator.manual_seed(seed)
        factory, names = find_factory(architecture)
        named = {names[name]: value for name, value in settings.items() if name in names}
        model = _initialised(call_factory(architecture, factory, named, arguments), in_channels, image_size)
        if GRADIENTS in changed():
            raise ModelError(
                f"the code of {architecture} changes {GRADIENTS} for all of torch; use with torch.no_grad(): there"
            )
        return adapt(model, **settings) if is_own(architecture) else model


def probe(model: nn.Module, in_channels: int, image_size: tuple[int, int], *, training: bool = False) -> int:
    """Run ``model`` once, in evaluation mode, on two black images and count its logits.

    Every layer's mode is restored.

    Args:
        model: any module.
        in_channels, image_size: of the images; height and width in pixels.
        training: run it in train mode, too, on one batch whose statistics are forgotten.

    Returns:
        The number of outputs, which is the number of classes.

    Raises:
        ModelError: the model fails on such images, doesn't return float logits (N, classes), or can't be trained.
    """
    images = pixels_for(model, torch.zeros(2, in_channels, *image_size))
    classes = logits_of(model, images).shape[1]
    if training:
        logits = logits_of(model, images, "the model in train mode", training=True)
        if not logits.requires_grad:
            raise ModelError(
                "the model can't be trained: its logits have no gradient; its code detaches them or runs under "
                "torch.no_grad(), or every weight is frozen"
            )
        classes = min(classes, logits.shape[1])
    return classes


def channels_last(model: nn.Module, in_channels: int, image_size: tuple[int, int]) -> nn.Module:
    """Convert a model's weights to channels-last, in place; convolutions train faster so on a CPU.

    Not every model supports it: one that calls ``view`` on a convolution's output keeps the default layout.

    Raises:
        ModelError: see :func:`probe`.
    """
    try:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        probe(model, in_channels, image_size)
    except (ModelError, RuntimeError):
        model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        probe(model, in_channels, image_size)
    return model


def _initialised(model: nn.Module, in_channels: int, image_size: tuple[int, int]) -> nn.Module:
    """The model itself, not compiled, with lazy layers initialised by a dry run.

    Raises:
        ModelError: the dry run fails, or weights are on the meta device.
    """
    model = getattr(model, "_orig_mod", model)  # of torch.compile; the module's weights are the same
    if any(is_lazy(each) for each in (*model.parameters(), *model.buffers())):
        with (
            failures_as(ModelError, "the model failed when its lazy layers were initialised"),
            in_mode(model, training=False),
            torch.no_grad(),
        ):
            model(torch.zeros(2, in_channels, *image_size))
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        if value.is_meta:
            raise ModelError(f"the model's {name} is on the meta device, without values; build it on the CPU")
    return model
