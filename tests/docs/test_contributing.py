"""CONTRIBUTING's examples, moved into the package as its text says, are clean and pass the contracts."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)

# file: its folder (none: it goes into goals.py), the class, the package's table, the contract's rows
MOVES = {
    "mydetector": ("detection", "NoiseShift", "DETECTORS", "detector_rows"),
    "stripe": ("triggers", "Stripe", "TRIGGERS", "contracts/test_triggers"),
    "swap": ("", "Swap", "GOALS", "contracts/test_goals"),
    "flip": ("attacks", "Flip", "UPDATE_STEPS", "contracts/test_update_steps"),
    "middle": ("aggregation", "Middle", "AGGREGATORS", "contracts/test_aggregation_rules"),
}
ROWS = {
    "mydetector": '"mydetector": Row(DETECTORS["mydetector"], DETECTORS["mydetector"], True, True, False),',
    "stripe": 'Row("stripe", {"row": 4}),',
    "swap": 'Row("swap", {"first": 0, "second": 3}, {0, 3}, 2),',
    "flip": 'Row("flip", {"factor": 2.0}, grows=True),',
    "middle": '"middle": Row(AGGREGATORS["middle"](), ignores_num_examples=True, tolerates_byzantine=True),',
}


def examples() -> dict[str, str]:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    found = {}
    for code in BLOCK.findall(text):
        name = re.match(r"# (\w+)\.py\n", code)
        found[name[1] if name else "mydetector"] = code
    return found


def checked(command: list[str], folder: Path, **environment: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def enter(table: Path, imported: str, entry: str, name: str) -> None:
    """Import a class before the package's own modules, and enter it in the package's table."""
    text = table.read_text(encoding="utf-8").replace("\nfrom fedmend.", f"\n{imported}from fedmend.", 1)
    text = re.sub(rf"^({name}\b.*= {{)$", rf"\1\n    {entry}", text, flags=re.MULTILINE)
    table.write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with the examples in it."""
    root = tmp_path_factory.mktemp("moved")
    for name in ("src", "tests", "examples"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", root)
    package = root / "src" / "fedmend"
    for name, code in examples().items():
        folder, made, table, contract = MOVES[name]
        if folder:
            (package / folder / f"{name}.py").write_text(code, encoding="utf-8")
            module, where = f"fedmend.{folder}.{name}", package / folder / "__init__.py"
            enter(where, f"from {module} import {made}\n", f'"{name}": {made},', table)
        else:
            goals = (package / "goals.py").read_text(encoding="utf-8")
            one = code[code.index("@settings") :]
            goals = goals.replace("\nGOALS: ", f"\n{one}\n\nGOALS: ")
            goals = goals.replace('    "all-to-one"', f'    "{name}": {made},\n    "all-to-one"')
            (package / "goals.py").write_text(goals, encoding="utf-8")
        rows = root / "tests" / f"{contract}.py"
        text = re.sub(r"^(ROWS = [{\[])$", rf"\1\n    {ROWS[name]}", rows.read_text(), flags=re.MULTILINE)
        rows.write_text(text, encoding="utf-8")
    return root


def test_every_kind_has_an_example() -> None:
    assert set(examples()) == set(MOVES)


def test_they_are_as_clean_as_the_package(moved: Path) -> None:
    files = [f"src/fedmend/{MOVES[name][0] or 'goals.py'}" for name in MOVES]
    checked(["ruff", "check", "--no-cache", "--ignore", "I001,RUF022", *files], moved)
    own = [f"src/fedmend/{MOVES[name][0]}/{name}.py" for name in MOVES if MOVES[name][0]]
    checked(["ruff", "check", "--no-cache", *own], moved)


@pytest.mark.slow
def test_they_are_strictly_typed(moved: Path) -> None:
    """With what mypy knows of other packages from ``make check``."""
    modules = [f"fedmend.{MOVES[name][0]}.{name}" for name in MOVES if MOVES[name][0]] + ["fedmend.goals"]
    known = str(ROOT / ".mypy_cache")
    checked(["mypy", *(f"-m{module}" for module in modules)], moved, MYPYPATH="src", MYPY_CACHE_DIR=known)


@pytest.mark.slow
def test_they_pass_the_contracts(moved: Path) -> None:
    """Their own rows, and that every kind has one; the other rows are run where they are."""
    names = " or ".join((*MOVES, "has_a_row"))
    checked(["pytest", "-q", "-k", names, "tests/contracts"], moved, PYTHONPATH=str(moved / "src"))
