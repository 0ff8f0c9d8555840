"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass, replace
from functools import partial, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fedmend.cli import known_names
from fedmend.cli.byte_count import ByteCount
from fedmend.cli.completion import complete
from fedmend.cli.data_options import DataChoice, add_data_options
from fedmend.cli.model_options import ModelChoice, add_model_options
from fedmend.cli.result_command import ResultCommand
from fedmend.errors import ConfigError
from fedmend.seeds import unpredictable_seed

if TYPE_CHECKING:  # help and completion need no torch
    from fedmend.detection import Detector, Effort

DEFAULT_DETECTOR = "differential"
DETECTOR_HELP = f"The detector: {', '.join(known_names.DETECTORS)}, or package.module:factory for your own."

command = partial(click.command, cls=ResultCommand)
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
            help="A clean model file, best a pinned one that was verified. Most detectors need one. A backdoor that "
            "it has, too, as the round before the last may have, can't be found by comparing.",
        ),
        add_model_options(required=required),
        add_data_options(required=required),
        click.option(
            "--expected-accuracy",
            type=click.FloatRange(0, 1, min_open=True),
            metavar="FRACTION",
            help="What the models get right of such images, such as 0.94. With less, the pixels, the labels or the "
            "order of the classes aren't those of the training, and the scan is inconclusive.",
        ),
        click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, ..."),
        click.option(
            "--seed",
            type=click.IntRange(min=0),
            default=unpredictable_seed,
            show_default="drawn anew, and recorded in the report",
            help="Decides which images are used and all other randomness. Choose one only to repeat a result: a model "
            "can be trained to look clean on images that are known before.",
        ),
        click.option("--json", "as_json", is_flag=True, help="Print only the result, as JSON."),
    )


memory = click.option(
    "--memory",
    type=ByteCount(),
    help="What a search or a step of unlearning may take beside models and images, such as 4GiB. Where all images at "
    "once would take more, they are computed in parts.  [default: half of what is free]",
)


def chosen_detector(name: str, effort: Effort | None, memory: int | None = None) -> Detector:
    """The detector with this name, with an effort and a limit on its memory, in bytes, if they are given.

    Raises:
        ConfigError: there is no such detector, or it takes no effort or limit.
    """
    from fedmend.detection import find_detector

    detector: Any = find_detector(name)
    own = {field.name for field in fields(detector)} if is_dataclass(detector) else set()
    given: dict[str, Any] = {"effort": effort, "memory": memory}
    given = {setting: value for setting, value in given.items() if value is not None}
    for setting in given:
        if setting not in own:
            raise ConfigError(f"the method {name} has no such setting, so remove --{setting}")
    changed: Detector = replace(detector, **given) if given else detector
    return changed


def require(suspects: Sequence[str], model: ModelChoice, data: DataChoice) -> None:
    """See to it that a scan has what it needs.

    Raises:
        click.UsageError: something is missing; all of it is named.
    """
    given = {"SUSPECT": suspects, "--model": model.architecture, "--data": data.source}
    missing = [f"'{name}'" for name, value in given.items() if not value]
    if missing:
        raise click.UsageError(f"Missing {', '.join(missing)}; fedmend scan --help explains them")


def common(*, required: bool = True) -> Callable[[Function], Function]:
    """The options that a scan and a repair share.

    Args:
        required: whether the model and data must be given.
    """
    return lambda function: reduce(
        lambda wrapped, option: option(wrapped), reversed(_shared(required)), function
    )
