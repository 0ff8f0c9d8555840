"""What a command imports: starting it should take little longer than importing torch."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import click
import pytest

from fedmend.cli import COMMANDS, command_line


def imported(*arguments: str, code: int = 0) -> set[str]:
    """The modules that a command line of its own process has imported in the end."""
    program = (
        "import sys, atexit\n"
        "atexit.register(lambda: sys.stderr.write(' '.join(sys.modules)))\n"
        f"from fedmend.cli import main; main({list(arguments)!r})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == code, done.stderr
    return set(done.stderr.split())


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], []])
def test_help_and_version_import_no_torch(arguments: list[str]) -> None:
    modules = imported(*arguments)
    assert "fedmend.cli" in modules
    assert not {name for name in modules if name.split(".")[0] in ("torch", "numpy", "pydantic", "rich")}


def test_a_scan_imports_only_what_it_needs(files: Any, tmp_path: Any) -> None:
    given = files.scan(files.model("clean"), tmp_path / "no", model="no_such_module:make")
    modules = imported(*given, code=2)
    assert {"fedmend.cli.case_loading", "fedmend.pages.contents"} <= modules
    absent = {"datasets", "pandas", "pyarrow", "rich", "torch._dynamo", "fedmend.data.hub"}
    assert not absent & modules
    others = {"federation", "attacks", "aggregation", "pruning", "local_training"}
    assert not {name for name in modules if name.startswith("fedmend.") and name.split(".")[1] in others}
    # a page shows a repair's report, if there is one
    assert {name for name in modules if name.startswith("fedmend.repairs.")} == {
        "fedmend.repairs.repair_report"
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_can_be_called(name: str) -> None:
    command = command_line.get_command(click.Context(command_line), name)
    assert command is not None
    assert command.name == name


def test_help_lists_every_command(run: Callable[..., Any]) -> None:
    text = run(["--help"]).out
    for name, told in COMMANDS.items():
        assert f"{name} " in text
        assert told in text
