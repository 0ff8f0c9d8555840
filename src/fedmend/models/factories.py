"""Finds what makes a network: one of fedmend's, one of a user's own or of a package, or one of timm's."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

from torch import nn

from fedmend.errors import ModelError
from fedmend.kinds import find_kind
from fedmend.models.conv_net import convnet
from fedmend.models.residual_net import resnet18, resnet34
from fedmend.models.three_conv_net import three_conv
from fedmend.models.two_conv_net import two_conv_8_16, two_conv_20_50
from fedmend.user_code import accepts, failures_as, load_factory

Factory: TypeAlias = Callable[..., nn.Module]

ARCHITECTURES: dict[str, Factory] = {
    "convnet": convnet,
    "resnet18": resnet18,
    "resnet34": resnet34,
    "two-conv-20-50": two_conv_20_50,
    "two-conv-8-16": two_conv_8_16,
    "three-conv": three_conv,
}

OF_TIMM = "timm:"
_SAME_NAMES = {name: name for name in ("num_classes", "in_channels", "image_size")}
_REFUSED = re.compile(r"(?:unexpected keyword argument|multiple values for (?:keyword )?argument) '(\w+)'")


def find_factory(architecture: str) -> tuple[Factory, dict[str, str]]:
    """What makes an architecture, and what it calls those of fedmend's arguments that it can be given.

    Raises:
        ModelError: the name is unknown, or the factory can't be imported.
    """
    if architecture.startswith(OF_TIMM):
        return _of_timm(architecture), {"num_classes": "num_classes", "in_channels": "in_chans"}
    if ":" not in architecture:
        return find_kind(architecture, ARCHITECTURES, "architecture", ModelError), _SAME_NAMES
    found = load_factory(architecture, "architecture", ModelError)
    if isinstance(found, nn.Module):
        raise ModelError(
            f"{architecture!r} is a {type(found).__name__}; expected a function or class that builds a new model"
        )
    return found, _SAME_NAMES


def call_factory(
    architecture: str, factory: Factory, settings: Mapping[str, Any], arguments: Mapping[str, Any]
) -> nn.Module:
    """Make a model with those of the settings that the factory takes, and with all of the arguments.

    A factory with ``**kwargs`` doesn't say what it takes: it is called with every setting, and again without the one
    that it refuses. An image size that makes it fail is tried as one number, then left out.

    Args:
        architecture: its name, for messages.
        factory: what to call.
        settings: of the images and classes.
        arguments: of the user's.

    Raises:
        ModelError: the factory fails or doesn't return a module.
    """
    given = {name: value for name, value in settings.items() if accepts(factory, name)} | dict(arguments)
    optional = [name for name in _taken_by_kwargs(factory, given) if name not in arguments]
    while True:
        try:
            model = _called(architecture, factory, given, settings)
            break
        except ModelError as error:
            refused = (
                _REFUSED.search(str(error.__cause__)) if isinstance(error.__cause__, TypeError) else None
            )
            name = "image_size" if refused is None else refused[1]
            if name not in optional or not isinstance(error.__cause__, Exception):
                raise
            size = given.pop(name)
            if refused is None and isinstance(size, tuple) and size[0] == size[1]:
                given[name] = size[0]  # as libraries take it
            else:
                optional.remove(name)
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"the factory {architecture} returned a {type(model).__name__}; expected a torch.nn.Module"
        )
    return model


def _called(
    architecture: str, factory: Factory, given: Mapping[str, Any], settings: Mapping[str, Any]
) -> object:
    passed = ", ".join(f"{name}={value!r}" for name, value in given.items())
    with failures_as(
        ModelError,
        f"the factory {architecture} failed when called with ({passed})",
        f"a factory gets those of {', '.join(settings)} that it accepts, and must require nothing else but what "
        "--model-args gives",
    ):
        return factory(**given)


def _taken_by_kwargs(factory: Factory, names: Mapping[str, Any]) -> set[str]:
    """Which names aren't among the factory's parameters."""
    try:
        parameters = inspect.signature(factory).parameters
    except Exception:  # as in ``accepts``
        return set(names)
    return set(names) - set(parameters)


def _of_timm(architecture: str) -> Factory:
    name = architecture.removeprefix(OF_TIMM)
    if not re.fullmatch(r"[\w.-]+", name):
        raise ModelError(
            f"can't read the architecture {architecture!r}: expected timm:NAME, as in timm.list_models()"
        )
    try:
        import timm
    except ImportError as error:
        raise ModelError(
            f"the architecture {architecture!r} needs timm, which isn't installed; try pip install 'fedmend[timm]'"
        ) from error
    return partial(timm.create_model, name, pretrained=False)
