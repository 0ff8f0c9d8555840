"""A command whose result is for programs, too: it knows its own words, and its errors can be JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from fedmend.cli.console import EXIT_BAD_INPUT, show
from fedmend.cli.missing_options import NamesAllMissing
from fedmend.errors import FedmendError

COMMAND = "fedmend.command"
"""Where a command's context holds its words."""
_AS_JSON = "--json"


class ResultCommand(NamesAllMissing):
    """With ``--json``, bad input is also a JSON object on stdout, ``{"error": ..., "exit": 2}``."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Parse the words, and remember them."""
        words = (str(info_name), *args)
        with _errors_as_json(_AS_JSON in words):
            context = super().make_context(info_name, list(args), parent, **extra)
        context.meta[COMMAND] = words
        return context

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with _errors_as_json(_AS_JSON in ctx.meta[COMMAND]):
            return super().invoke(ctx)


@contextmanager
def _errors_as_json(wanted: bool) -> Iterator[None]:
    try:
        yield
    except (FedmendError, click.ClickException) as error:
        if wanted:
            message = error.format_message() if isinstance(error, click.ClickException) else str(error)
            show(json.dumps({"error": " ".join(message.split()), "exit": EXIT_BAD_INPUT}))
        raise
