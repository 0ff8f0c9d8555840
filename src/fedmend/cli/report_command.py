"""``fedmend report``: a page from a folder of results."""

from __future__ import annotations

from pathlib import Path

import click

from fedmend.cli.console import show


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
def report(run: Path) -> None:
    """Write RUN/report.html from the results in the folder RUN.

    RUN is a folder written by simulate, scan or repair, or by several of them.
    """
    from fedmend.pages import read_folder, write_page  # only this command needs templates and pictures

    page = run / "report.html"
    write_page(page, read_folder(run))
    show(f"Report: {page}")
