"""Options that say how a model file is to be understood."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import click

from fedmend.cli.completion import complete
from fedmend.cli.known_names import ARCHITECTURES, NORMALIZATIONS
from fedmend.errors import ConfigError


@dataclass(frozen=True)
class ModelChoice:
    """What a command line says about the models.

    Attributes:
        architecture: see :func:`fedmend.models.build_model`; None if not given.
        arguments: of the architecture's factory, by name.
        normalization: mean and standard deviation, one number or one per channel, that the models expect their input
            to be normalised with; None if they take pixels in [0, 1].
        key: of the state dict in a file that holds several; see :func:`fedmend.checkpoints.load_checkpoint`.
        strip_prefix: of the names of the weights; see there.
    """

    architecture: str | None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    normalization: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    key: str | None = None
    strip_prefix: str | None = None


def add_model_options(*, required: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the options; the command gets them as one :class:`ModelChoice`, ``model``."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def with_choice(**options: Any) -> Any:
            choice = ModelChoice(
                options.pop("architecture"),
                read_arguments(options.pop("model_args")),
                read_normalization(options.pop("mean"), options.pop("std")),
                options.pop("key"),
                options.pop("strip_prefix"),
            )
            return command(model=choice, **options)

        known = ", ".join(NORMALIZATIONS)
        for option in (
            click.option(
                "--strip-prefix",
                metavar="PREFIX",
                help="Which network's weights to take from a state dict that holds several: those whose names start "
                "so.",
            ),
            click.option(
                "--key",
                metavar="KEY",
                help="Which state dict to take from a model file that holds several, such as state_dict_ema.",
            ),
            click.option(
                "--std",
                metavar="NUMBERS",
                help=f"The standard deviations that belong to --mean: numbers, or {known}.",
            ),
            click.option(
                "--mean",
                metavar="NUMBERS",
                help="Normalise images first, for models that don't do so themselves: one number, or one per channel "
                f"with commas between, for pixels in [0, 1]; or {known}, with their standard deviations.",
            ),
            click.option(
                "--model-args",
                multiple=True,
                metavar="NAME=VALUE",
                help="An argument for the factory of --model, such as width=8 or act='gelu'. Repeat it for several.",
            ),
            click.option(
                "--model",
                "architecture",
                required=required,
                metavar="ARCH",
                shell_complete=complete(ARCHITECTURES),
                help=f"{', '.join(ARCHITECTURES)}, timm:NAME, or package.module:factory, of a package such as "
                "torchvision.models:resnet18 or your own.",
            ),
        ):
            with_choice = option(with_choice)
        return with_choice

    return add


def read_arguments(given: Sequence[str]) -> dict[str, Any]:
    """Arguments written ``name=value``; values as in TOML, other words are text.

    Raises:
        ConfigError: one isn't written so, or a name is given twice.
    """
    read: dict[str, Any] = {}
    for each in given:
        name, equals, text = (part.strip() for part in each.partition("="))
        if not name.isidentifier() or not equals or name in read:
            raise ConfigError(
                f"--model-args: expected name=value, each name once, such as width=8; got {each!r}"
            )
        read[name] = _value(text)
    return read


def _value(text: str) -> Any:
    try:
        value = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):  # of too many digits, too
        return text
    return value["value"] if value.keys() == {"value"} else text


def read_normalization(
    mean: str | None, std: str | None
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and standard deviation: numbers with commas between, or a data set's name; None if neither is given.

    Raises:
        ConfigError: one isn't written so, or the mean alone is given in numbers.
    """
    if mean is None and std is None:
        return None
    from fedmend.models import KNOWN_NORMALIZATIONS  # here, so that --help doesn't import torch

    if mean in KNOWN_NORMALIZATIONS and std is None:
        return KNOWN_NORMALIZATIONS[mean]
    if mean is None or std is None:
        raise ConfigError(
            f"--mean and --std belong together; give {'--mean' if mean is None else '--std'} as well"
        )
    return _numbers("--mean", mean, 0), _numbers("--std", std, 1)


def _numbers(option: str, text: str, which: int) -> tuple[float, ...]:
    from fedmend.models import KNOWN_NORMALIZATIONS

    if text in KNOWN_NORMALIZATIONS:
        return KNOWN_NORMALIZATIONS[text][which]
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        raise ConfigError(
            f"{option}: expected numbers with commas between, such as 0.485,0.456,0.406, or "
            f"{', '.join(NORMALIZATIONS)}; got {text!r}"
        ) from None
