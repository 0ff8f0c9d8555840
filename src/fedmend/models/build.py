"""Builds built-in and user-defined architectures by name."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from fedmend.errors import FedmendError, ModelError
from fedmend.kinds import find_kind
from fedmend.models.conv_net import convnet
from fedmend.models.residual_net import resnet18, resnet34
from fedmend.models.three_conv_net import three_conv
from fedmend.models.two_conv_net import two_conv_8_16, two_conv_20_50
from fedmend.user_code import accepts, current_folder_importable, in_one_line, load_factory

Factory: TypeAlias = Callable[..., nn.Module]

ARCHITECTURES: dict[str, Factory] = {
    "convnet": convnet,
    "resnet18": resnet18,
    "resnet34": resnet34,
    "two-conv-20-50": two_conv_20_50,
    "two-conv-8-16": two_conv_8_16,
    "three-conv": three_conv,
}


def build_model(
    architecture: str,
    *,
    num_classes: int,
    in_channels: int,
    image_size: tuple[int, int],
    seed: int | None = None,
) -> nn.Module:
    """Build a model with fresh weights, on the CPU.

    Args:
        architecture: a name in ``ARCHITECTURES`` (hyphens and underscores alike), or
            ``package.module:factory``: your own function or class, also searched in the current folder. It is
            called with those of ``num_classes``, ``in_channels`` and ``image_size`` that it accepts by keyword.
        num_classes: number of logits, 2 or more.
        in_channels: channels of the images, 1 or more.
        image_size: height and width of the images in pixels.
        seed: of the initial weights; leaves torch's global generator unchanged. Without a seed, they are drawn
            from that generator.

    Raises:
        ModelError: the name is unknown, or the factory can't be imported, fails or doesn't return a module.
    """
    height, width = image_size
    if num_classes < 2 or in_channels < 1 or height < 1 or width < 1:
        raise ModelError(
            "a classifier needs 2 or more classes and images of 1 or more channels and pixels; "
            f"got {num_classes} classes, {in_channels} channels, {height}x{width} pixels"
        )
    settings = {"num_classes": num_classes, "in_channels": in_channels, "image_size": (height, width)}
    with current_folder_importable(architecture), nullcontext() if seed is None else torch.random.fork_rng(devices=[]):
        if seed is not None:
            torch.default_generator.manual_seed(seed)
        return _call(architecture, _find(architecture), settings)


def probe(model: nn.Module, in_channels: int, image_size: tuple[int, int]) -> int:
    """Run ``model`` once, in evaluation mode, on two black images and count its logits.

    Every layer's mode is restored.

    Returns:
        The number of outputs, which is the number of classes.

    Raises:
        ModelError: the model fails on such images or doesn't return float logits (N, classes).
    """
    height, width = image_size
    like = next(model.parameters(), torch.empty(0))
    images = torch.zeros(2, in_channels, height, width, device=like.device, dtype=like.dtype)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            logits = model(images)
    except Exception as error:
        raise ModelError(
            f"the model failed on images of shape (N, C, H, W) = {tuple(images.shape)}: {in_one_line(error)}; "
            "check that it was built for this number of channels and this image size"
        ) from error
    finally:
        for module, training in modes:
            module.training = training
    if not isinstance(logits, Tensor):
        raise ModelError(
            f"expected a model that returns a tensor of logits (N, classes); got a {type(logits).__name__}: "
            "wrap it in a module that returns only the logits"
        )
    if logits.ndim != 2 or logits.shape[0] != 2 or logits.shape[1] < 2 or not logits.is_floating_point():
        raise ModelError(
            "expected float logits of shape (N, classes), with 2 or more classes; "
            f"for N = 2 the model returned {logits.dtype} of shape {tuple(logits.shape)}"
        )
    return logits.shape[1]


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


def _find(architecture: str) -> Factory:
    """The factory that ``architecture`` names."""
    if ":" in architecture:
        return _import(architecture)
    return find_kind(architecture, ARCHITECTURES, "architecture", ModelError)


def _import(architecture: str) -> Factory:
    found = load_factory(architecture, "architecture", ModelError)
    if isinstance(found, nn.Module):
        raise ModelError(
            f"{architecture!r} is a {type(found).__name__}; expected a function or class that builds a new model"
        )
    return found


def _call(architecture: str, factory: Factory, settings: dict[str, Any]) -> nn.Module:
    accepted = {name: value for name, value in settings.items() if _accepts(factory, name)}
    try:
        model: Any = factory(**accepted)
    except FedmendError:
        raise
    except (Exception, SystemExit) as error:
        given = ", ".join(f"{name}={value!r}" for name, value in accepted.items())
        raise ModelError(
            f"the factory {architecture} failed when called with ({given}): {in_one_line(error)}; "
            f"a factory gets those of {', '.join(settings)} that it accepts, and must require nothing else"
        ) from error
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"the factory {architecture} returned a {type(model).__name__}; expected a torch.nn.Module"
        )
    return model


def _accepts(factory: Factory, name: str) -> bool:
    if getattr(factory, "__init__", None) is nn.Module.__init__:
        return False  # a module class without settings: its signature shows **kwargs but takes none
    return accepts(factory, name)
