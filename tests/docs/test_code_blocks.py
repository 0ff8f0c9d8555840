"""Every code block of the README and the docs runs, page by page in an empty folder, as a reader would run it.

- ``python`` is run as a script of its own; one that begins with ``# name.py`` is only written to that file.
- ``toml`` that begins with ``# name.toml`` is written to that file; all TOML must be valid.
- ``sh`` is run by ``bash -e``.
- ``console`` holds commands after ``$ `` and what they print. Numbers may differ; ``...`` stands for any text, or on a
  line of its own for any lines. A command may only fail if ``$ echo $?`` follows.
- A page with ``<!-- continues: other.md -->`` starts with the files that the other page left.
- The README's demo goes on from the first tutorial's federation, which is the same one.
- ``text`` isn't run.

``fedmend`` and scripts run in forks of a process that has imported torch (``fork_server.py``); what starting them as a
reader does takes is tested in ``tests/cli``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
README, TUTORIAL = ROOT / "README.md", ROOT / "docs" / "tutorials" / "first-scan.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUN = ("python", "sh", "console", "toml")
NOT_RUN = ("text", "json")
MARK = "next command:"

FENCE = re.compile(r"^( *)```(\S*)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
FILE_NAME = re.compile(r"# ([\w./-]+\.\w+)\n")
COMMAND = re.compile(r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
CONTINUES = re.compile(r"<!-- continues: (\S+) -->")

Run = Callable[[Path], Path]


@dataclass(frozen=True)
class Block:
    language: str
    text: str

    @property
    def file_name(self) -> str | None:
        match = FILE_NAME.match(self.text)
        return None if match is None else match[1]


def blocks(page: str) -> list[Block]:
    return [Block(match[2], textwrap.dedent(match[3])) for match in FENCE.finditer(page)]


def earlier(page: Path) -> Path | None:
    """The page that this one continues."""
    if page == README:
        return TUTORIAL
    found = CONTINUES.search(page.read_text(encoding="utf-8"))
    return None if found is None else (page.parent / found[1]).resolve()


def with_group(page: Path) -> Any:
    """The page as a parameter; those that begin with the same page are run by one worker, which runs that once."""
    begins = page
    while (before := earlier(begins)) is not None:
        begins = before
    return pytest.param(page, marks=pytest.mark.xdist_group(begins.relative_to(ROOT).as_posix()))


def run_block(block: Block, folder: Path, programs: Path) -> None:
    if block.language == "toml":
        tomllib.loads(block.text)
    if block.language in ("toml", "python") and block.file_name is not None:
        path = folder / block.file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")
    elif block.language == "python":
        (folder / "block.py").write_text(block.text, encoding="utf-8")
        checked(["bash", "-e", "-c", "script block.py"], folder, programs)
    elif block.language == "sh":
        checked(["bash", "-e", "-c", block.text], folder, programs)
    elif block.language == "console":
        run_console(block.text, folder, programs)


def run_console(text: str, folder: Path, programs: Path) -> None:
    shown = [match.groups() for match in COMMAND.finditer(text)]
    lines = [f"{command}\nstatus=$?; echo '{MARK}' $status; (exit $status)" for command, _ in shown]
    printed = checked(["bash", "-c", "\n".join([*lines, "exit 0"])], folder, programs)
    outputs = re.split(rf"{MARK} (\d+)\n", printed)
    for index, (command, expected) in enumerate(shown):
        output, status = outputs[2 * index], outputs[2 * index + 1]
        following = shown[index + 1][0] if index + 1 < len(shown) else ""
        assert status == "0" or following == "echo $?", f"$ {command}\nexit code {status}\n{output}"
        assert matches(expected, output), f"$ {command}\nprints\n{output}\ninstead of\n{expected}"


def matches(expected: str, output: str) -> bool:
    """Whether the output is what a page shows, but for numbers and ``...``."""
    pattern = "\n".join(re.escape(line).replace(r"\.\.\.", ".*") for line in masked(expected).splitlines())
    pattern = re.sub(r"^\.\*\n?", "(?:.*\n)*?", pattern, flags=re.MULTILINE)
    return re.fullmatch(rf"\s*{pattern}\s*", masked(output) + "\n") is not None


def masked(text: str) -> str:
    without = re.sub(r"\d+([.,]\d+)*", "0", text)
    return "\n".join(" ".join(line.split()) for line in without.strip().splitlines())


def checked(command: list[str], folder: Path, programs: Path) -> str:
    path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
    env = {key: value for key, value in os.environ.items() if key != "FEDMEND_DATA"}
    env["PATH"] = path
    done = subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, f"{command[-1]}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def programs() -> Iterator[Path]:
    """A folder with ``fedmend`` and ``script``, which start at once."""
    with tempfile.TemporaryDirectory() as folder:  # its path is short enough for a socket's
        command = [sys.executable, str(Path(__file__).with_name("fork_server.py")), folder]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            yield Path(folder)
            server.terminate()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, programs: Path) -> Run:
    """Run a page once, after the page that it continues; returns the folder with what it left."""
    folders: dict[Path, Path] = {}

    def ran(page: Path) -> Path:
        if page not in folders:
            text = page.read_text(encoding="utf-8")
            folder = tmp_path_factory.mktemp(page.stem)
            before = earlier(page)
            if page == README:
                shutil.copytree(ran(TUTORIAL) / "run", folder / "fedmend-demo")
            elif before is not None:
                shutil.copytree(ran(before), folder, dirs_exist_ok=True)
            for block in blocks(text):
                run_block(block, folder, programs)
            folders[page] = folder
        return folders[page]

    return ran


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [
        with_group(page)
        for page in PAGES
        if any(map(RUN.__contains__, re.findall(r"```(\w+)", page.read_text())))
    ],
    ids=str,
)
def test_a_page_runs(page: Path, run: Run) -> None:
    run(page)


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_block_says_whether_it_runs(page: Path) -> None:
    assert {block.language for block in blocks(page.read_text(encoding="utf-8"))} <= {*RUN, *NOT_RUN}


def test_blocks_are_found_also_in_lists() -> None:
    assert blocks("a\n```sh\nls\n```\n1. b\n\n   ```toml\n   # a.toml\n   b = 1\n   ```\n") == [
        Block("sh", "ls\n"),
        Block("toml", "# a.toml\nb = 1\n"),
    ]


@pytest.mark.parametrize(
    ("expected", "same"),
    [
        ("a 2.5 %\nb\nc", True),
        ("a 1 %\n...", True),
        ("a ...\nb\n...", True),
        ("...\nc", True),
        ("a 1 %\nc", False),
        ("a 1 %\nb", False),
        ("x\n...", False),
    ],
)
def test_shown_output(expected: str, same: bool) -> None:
    assert matches(expected, "a 1.5 %\nb\nc\n") is same


def test_files_are_written_and_a_failure_is_noticed(tmp_path: Path, programs: Path) -> None:
    run_block(Block("toml", "# a/b.toml\nc = 1\n"), tmp_path, programs)
    run_block(Block("sh", "grep c a/b.toml\n"), tmp_path, programs)
    run_block(Block("console", "$ grep \\\n  c a/b.toml\nc = 2\n$ false\n$ echo $?\n3\n"), tmp_path, programs)
    for language, text in (("sh", "false\n"), ("console", "$ false\n"), ("python", "1 / 0\n")):
        with pytest.raises(AssertionError):
            run_block(Block(language, text), tmp_path, programs)
    with pytest.raises(tomllib.TOMLDecodeError):
        run_block(Block("toml", "a ="), tmp_path, programs)
