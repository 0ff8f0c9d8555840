"""``fedmend report``: a page from a folder of results."""

from __future__ import annotations

from pathlib import Path

from fedmend.cli.console import show
from fedmend.files import undo_unfinished
from fedmend.pages import read_folder, write_page


def report(run: Path) -> None:
    """See :func:`fedmend.cli.report_options.report`."""
    undo_unfinished(run)
    page = run / "report.html"
    write_page(page, read_folder(run))
    show(f"Report: {page}")
