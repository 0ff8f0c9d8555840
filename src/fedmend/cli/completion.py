"""Values that a shell completes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import click
from click.shell_completion import CompletionItem

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def complete(names: Sequence[str], *, files: bool = False) -> Complete:
    """Complete one of these names, or with ``files`` also the path of a file or folder."""

    def found(_context: click.Context, _parameter: click.Parameter, typed: str) -> list[CompletionItem]:
        items = [CompletionItem(name) for name in names if name.startswith(typed)]
        return [*items, CompletionItem(typed, type="file")] if files else items

    return found
