"""Options that say which images a command reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

import click

from fedmend.cli.completion import complete
from fedmend.cli.known_names import DATA


@dataclass(frozen=True)
class DataChoice:
    """What a command line says about the images.

    Attributes:
        source: see :func:`fedmend.data.open_images`; None if not given.
        split: likewise.
        count: how many images to scan with, see :func:`fedmend.cli.case_loading.choose_images`; None: the default.
    """

    source: str | None
    split: str = "test"
    count: int | None = None


def data_options(*, required: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the options; the command gets them as one :class:`DataChoice`, ``data``."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def with_choice(*, source: str | None, split: str, count: int | None, **options: Any) -> Any:
            return command(data=DataChoice(source, split, count), **options)

        source = click.option(
            "--data",
            "source",
            required=required,
            metavar="SOURCE",
            shell_complete=complete(DATA, files=True),
            help="Clean images: a known name, a hub id, a parquet or .npz file, or a folder with one sub-folder per "
            "class.",
        )
        split = click.option("--split", default="test", show_default=True, help="The split of SOURCE to use.")
        count = click.option(
            "--images",
            "count",
            type=click.IntRange(min=1),
            help="Images to scan with, at best 8 of a class or more, which backdoors of a single class need.  "
            "[default: 40 per class, at most 600 in all, at least 3 per class]",
        )
        return source(split(count(with_choice)))

    return add
