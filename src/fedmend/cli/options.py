"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fedmend.cli import known_names
from fedmend.cli.completion import complete
from fedmend.cli.data_options import data_options
from fedmend.cli.missing_options import NamesAllMissing
from fedmend.cli.model_options import model_options
from fedmend.errors import ConfigError

if TYPE_CHECKING:  # help and completion need no torch
    from fedmend.detection import Detector, Effort

DEFAULT_DETECTOR = "differential"
DETECTOR_HELP = f"The detector: {', '.join(known_names.DETECTORS)}, or package.module:factory for your own."

command = partial(click.command, cls=NamesAllMissing)
complete_detector = complete(known_names.DETECTORS)

Function = TypeVar("Function", bound=Callable[..., Any])

_PATH = click.Path(path_type=Path)

suspect = click.argument("suspect", type=_PATH)

effort = click.option(
    "--effort",
    type=click.Choice(known_names.EFFORTS),
    help="What the method differential searches for: patches that send every class to one; patches for pairs of "
    "classes and additive perturbations as well; or everything, with more candidates.  [default: standard]",
)


def _shared(required: bool) -> tuple[Callable[[Any], Any], ...]:
    return (
        click.option(
            "--reference",
            type=_PATH,
            help="A clean model file, such as an earlier round's. Most detectors need one.",
        ),
        model_options(required=required),
        data_options(required=required),
        click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, ..."),
        click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True),
        click.option("--json", "as_json", is_flag=True, help="Print only the result, as JSON."),
    )


def chosen_detector(name: str, effort: Effort | None) -> Detector:
    """The detector with this name, with an effort if one is given.

    Raises:
        ConfigError: there is no such detector, or it takes no effort.
    """
    from fedmend.detection import Differential, find_detector

    detector = find_detector(name)
    if effort is None:
        return detector
    if not isinstance(detector, Differential):
        raise ConfigError(
            f"--effort is a setting of the method differential; {name} has none, so remove --effort"
        )
    return replace(detector, effort=effort)


def common(*, required: bool = True) -> Callable[[Function], Function]:
    """The options that a scan and a repair share.

    Args:
        required: whether the model and data must be given.
    """
    return lambda function: reduce(
        lambda wrapped, option: option(wrapped), reversed(_shared(required)), function
    )
