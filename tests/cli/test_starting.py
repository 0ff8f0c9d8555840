"""What a command imports: starting it should take little longer than importing torch."""

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any, get_args

import click
import pytest

from fedmend.cli import COMMANDS, command_line, known_names


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


LARGE = {"torch", "numpy", "pydantic", "rich", "jinja2", "PIL", "pyarrow"}


def test_help_and_version_import_no_torch() -> None:
    """In one process, since each takes a while to start."""
    words = [["--help"], ["--version"], [], *([name, "--help"] for name in COMMANDS)]
    program = f"""
import sys
from fedmend.cli import command_line
for words in {words}:
    try:
        command_line.main(words, prog_name="fedmend")
    except SystemExit:
        pass
print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.count("Usage: fedmend") == len(words) - 1
    modules = set(done.stdout.splitlines()[-1].split())
    assert {f"fedmend.cli.{name}_options" for name in COMMANDS} <= modules
    assert not {name for name in modules if name.partition(".")[0] in LARGE}


def completed(*words: str) -> list[str]:
    """What bash would be offered for the last word."""
    environment = os.environ | {
        "_FEDMEND_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(["fedmend", *words]),
        "COMP_CWORD": str(len(words)),
    }
    program = (
        "import atexit, sys; atexit.register(lambda: print('torch' in sys.modules)); "
        "from fedmend.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    *offered, torch = done.stdout.split()
    assert torch == "False"
    return offered


def test_values_are_completed_without_torch() -> None:
    assert completed("scan", "s.pt", "--model", "resnet") == ["plain,resnet18", "plain,resnet34"]
    assert completed("scan", "s.pt", "--data", "cif") == ["plain,cifar10", "file,cif"]
    methods = completed("scan", "s.pt", "--method", "contrastive-p")
    assert methods == [f"plain,contrastive-paper-{name}" for name in ("cifar10", "gtsrb", "mnist")]
    assert completed("repair", "s.pt", "--method", "pr") == ["plain,prune", "plain,prune-paper"]


def test_known_names_are_those_that_there_are() -> None:
    from fedmend.data import loading
    from fedmend.detection import DETECTORS, Effort
    from fedmend.models import ARCHITECTURES, KNOWN_NORMALIZATIONS
    from fedmend.repairs import REPAIRS

    assert tuple(DETECTORS) == known_names.DETECTORS
    assert get_args(Effort) == known_names.EFFORTS
    assert tuple(REPAIRS) == known_names.REPAIRS
    assert tuple(ARCHITECTURES) == known_names.ARCHITECTURES
    assert tuple(KNOWN_NORMALIZATIONS) == known_names.NORMALIZATIONS
    assert (loading.SAMPLE, *loading._HUB_IDS) == known_names.DATA


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
