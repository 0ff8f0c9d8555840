"""The command line: the only code that prints."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from fedmend.cli.console import InterruptError, run, show

COMMANDS = {
    "compare": "Compare attacks and defences in many simulated federations.",
    "demo": "Attack a small federation, find the backdoor and repair the model.",
    "repair": "Scan a model and, if it is backdoored, repair it.",
    "report": "Write a page from a folder of results.",
    "scan": "Search a model for a backdoor.",
    "simulate": "Simulate a federation, honest or under attack.",
    "verify": "Verify a guard's history.",
}
"""Help for each command, here so that --help imports neither the commands nor torch."""


class _LazyGroup(click.Group):
    """Imports a command's options when they are needed, and what it does, with torch, when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"fedmend.cli.{cmd_name}_options"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # click would print an empty line first
            raise InterruptError from None


@click.group(
    "fedmend",
    cls=_LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="fedmend")
@click.pass_context
def command_line(context: click.Context) -> None:
    """Find and remove backdoors in models trained by federated learning."""
    if context.invoked_subcommand is None:
        show(context.get_help())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line with ``arguments`` (by default the process's) and exit."""
    words = None if arguments is None else list(arguments)
    sys.exit(run(lambda: command_line.main(words, prog_name="fedmend", standalone_mode=False)))
