"""Options that say how a model file is to be understood."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

import click

from fedmend.cli.completion import complete
from fedmend.cli.known_names import ARCHITECTURES


@dataclass(frozen=True)
class ModelChoice:
    """What a command line says about the models.

    Attributes:
        architecture: see :func:`fedmend.models.build_model`; None if not given.
        key: of the state dict in a file that holds several; see :func:`fedmend.checkpoints.load_checkpoint`.
        strip_prefix: of the names of the weights; see there.
    """

    architecture: str | None
    key: str | None = None
    strip_prefix: str | None = None


def model_options(*, required: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the options; the command gets them as one :class:`ModelChoice`, ``model``."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def with_choice(
            *, architecture: str | None, key: str | None, strip_prefix: str | None, **options: Any
        ) -> Any:
            return command(model=ModelChoice(architecture, key, strip_prefix), **options)

        choose_key = click.option(
            "--key",
            metavar="KEY",
            help="Which state dict to take from a model file that holds several, such as state_dict_ema.",
        )
        choose_prefix = click.option(
            "--strip-prefix",
            metavar="PREFIX",
            help="Which network's weights to take from a state dict that holds several: those whose names start so.",
        )
        name_architecture = click.option(
            "--model",
            "architecture",
            required=required,
            metavar="ARCH",
            shell_complete=complete(ARCHITECTURES),
            help=f"{', '.join(ARCHITECTURES)}, or package.module:factory for your own.",
        )
        return name_architecture(choose_key(choose_prefix(with_choice)))

    return add
