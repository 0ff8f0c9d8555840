"""The site is built without warnings, dead links and network, and names everything public."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import fedmend
from fedmend.cli import COMMANDS

pytest.importorskip("mkdocs", reason="the extra docs is not installed")

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    loads = r'<(?:script|img|link|iframe)[^>]*(?:src|href)="?(?:https?:)?//'
    assert [page.name for page in pages if re.search(loads, page.read_text(encoding="utf-8"))] == []


def test_the_reference_names_everything_public(site: Path) -> None:
    page = (site / "reference" / "python.html").read_text(encoding="utf-8")
    assert [name for name in fedmend.__all__ if f'id="fedmend.{name}"' not in page] == []


def test_roles_of_docstrings_and_unset_defaults_are_not_shown(site: Path) -> None:
    pages = {page.name: page.read_text(encoding="utf-8") for page in (site / "reference").glob("*.html")}
    assert [name for name, page in pages.items() if re.search(":(class|func|meth|data):<|UNSET", page)] == []


def test_the_reference_has_every_command(site: Path) -> None:
    page = (site / "reference" / "command-line.html").read_text(encoding="utf-8")
    assert [name for name in COMMANDS if f"fedmend {name} " not in page] == []
