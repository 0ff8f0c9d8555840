"""Options that say which images a command reads."""

from __future__ import annotations

import re
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
        resize: see :func:`fedmend.data.open_images`.
        classes: likewise, read from a file.
    """

    source: str | None
    split: str = "test"
    count: int | None = None
    resize: tuple[int, int] | None = None
    classes: tuple[str, ...] | None = None


def add_data_options(*, required: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the options; the command gets them as one :class:`DataChoice`, ``data``."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def with_choice(
            *,
            source: str | None,
            split: str,
            count: int | None,
            resize: tuple[int, int] | None,
            classes: str | None,
            **options: Any,
        ) -> Any:
            names = None if classes is None else _class_names(classes)
            return command(data=DataChoice(source, split, count, resize, names), **options)

        source = click.option(
            "--data",
            "source",
            required=required,
            metavar="SOURCE",
            shell_complete=complete(DATA, files=True),
            help="Clean images: a known name (in the folder FEDMEND_DATA, if that is set), a hub id, a parquet or .npz "
            "file, or a folder with one sub-folder per class.",
        )
        split = click.option("--split", default="test", show_default=True, help="The split of SOURCE to use.")
        count = click.option(
            "--images",
            "count",
            type=click.IntRange(min=1),
            help="Images to scan with, at best 8 of a class or more, which backdoors of a single class need.  "
            "[default: 40 per class, at most 600 in all, but 3 per class up to 1,000]",
        )
        resize = click.option(
            "--resize",
            callback=_size,
            metavar="H[xW]",
            help="Scale every image to this height and width in pixels: bilinear, with antialiasing.",
        )
        classes = click.option(
            "--classes",
            metavar="FILE",
            help="The names of the model's classes in its order, one in a line, as folders or labels have them.  "
            "[default: by name, numbers as numbers]",
        )
        return source(split(count(resize(classes(with_choice)))))

    return add


def _size(context: click.Context, option: click.Parameter, value: str | None) -> tuple[int, int] | None:
    if value is None:
        return None
    match = re.fullmatch(r"(\d{1,5})(?:[xX](\d{1,5}))?", value, re.ASCII)
    if match is None:
        raise click.BadParameter(
            f"expected a height, or height x width, in pixels, such as 224 or 32x48; got {value!r}"
        )
    return int(match[1]), int(match[2] or match[1])


def _class_names(path: str) -> tuple[str, ...]:
    from fedmend.data import read_class_names  # here, so that --help doesn't import torch

    return read_class_names(path)
