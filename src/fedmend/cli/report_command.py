"""``fedmend report``: one page from a folder of results."""

from __future__ import annotations

from pathlib import Path

import click

from fedmend.pages import read_folder, write_report


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
def report(run: Path) -> None:
    """Write RUN/report.html from the results in the folder RUN.

    RUN is what simulate, scan or repair wrote; several of them may share a folder.
    """
    page = run / "report.html"
    write_report(page, read_folder(run))
    click.echo(f"Report: {page}")
