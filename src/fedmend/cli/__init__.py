"""The command line: the only code that prints."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click

from fedmend.cli.console import InterruptError, run
from fedmend.cli.demo_command import demo
from fedmend.cli.repair_command import repair
from fedmend.cli.report_command import report
from fedmend.cli.scan_command import scan
from fedmend.cli.simulate_command import simulate


class _Commands(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # click would print an empty line first
            raise InterruptError from None


@click.group(
    cls=_Commands, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(package_name="fedmend")
@click.pass_context
def fedmend(context: click.Context) -> None:
    """Find and remove backdoors in models trained by federated learning."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for command in (demo, scan, repair, simulate, report):
    fedmend.add_command(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line with ``arguments`` (those of the process by default) and exit."""
    words = None if arguments is None else list(arguments)
    sys.exit(run(lambda: fedmend.main(words, prog_name="fedmend", standalone_mode=False)))
