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
    """

    architecture: str | None


def model_options(*, required: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the options; the command gets them as one :class:`ModelChoice`, ``model``."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def with_choice(*, architecture: str | None, **options: Any) -> Any:
            return command(model=ModelChoice(architecture), **options)

        return click.option(
            "--model",
            "architecture",
            required=required,
            metavar="ARCH",
            shell_complete=complete(ARCHITECTURES),
            help=f"{', '.join(ARCHITECTURES)}, or package.module:factory for your own.",
        )(with_choice)

    return add
