"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any, TypeVar, get_args

import click

from fedmend.detection import DETECTORS, Detector, Differential, Effort, find_detector
from fedmend.errors import ConfigError
from fedmend.models import ARCHITECTURES

DEFAULT_DETECTOR = "differential"
DETECTOR_HELP = f"The detector: {', '.join(DETECTORS)}, or package.module:factory for your own."

Function = TypeVar("Function", bound=Callable[..., Any])

_PATH = click.Path(path_type=Path)

suspect = click.argument("suspect", type=_PATH)

effort = click.option(
    "--effort",
    type=click.Choice(get_args(Effort)),
    help="What the method differential searches for: patches that send every class to one; patches for pairs of "
    "classes and additive perturbations as well; or everything, with more candidates.  [default: standard]",
)


def _shared(required: bool) -> tuple[Callable[[Function], Function], ...]:
    return (
        click.option(
            "--reference",
            type=_PATH,
            help="A clean model file, such as an earlier round's. Most detectors need one.",
        ),
        click.option(
            "--model",
            "architecture",
            required=required,
            metavar="ARCH",
            help=f"{', '.join(ARCHITECTURES)}, or package.module:factory for your own.",
        ),
        click.option(
            "--data",
            "source",
            required=required,
            metavar="SOURCE",
            help="Clean images: a known name, a hub id, a parquet or .npz file, or a folder with one sub-folder per "
            "class.",
        ),
        click.option("--split", default="test", show_default=True, help="The split of SOURCE to use."),
        click.option(
            "--images",
            "count",
            type=click.IntRange(min=1),
            help="Images to scan with, at best 8 of a class or more, which backdoors of a single class need.  "
            "[default: 40 per class, at most 600 in all, at least 3 per class]",
        ),
        click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, ..."),
        click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True),
        click.option("--json", "as_json", is_flag=True, help="Print only the result, as JSON."),
    )


def chosen_detector(name: str, effort: Effort | None) -> Detector:
    """The detector with this name, with an effort if one is given.

    Raises:
        ConfigError: there is no such detector, or it takes no effort.
    """
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
