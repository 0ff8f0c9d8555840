import ast
from pathlib import Path

import pytest

import fedmend

PACKAGE, BENCHMARKS = Path(str(fedmend.__file__)).parent, Path(__file__).parents[2] / "benchmarks"
FILES = sorted(path for path in BENCHMARKS.rglob("*.py") if "runs" not in path.parts)


def imported(source: str) -> list[str]:
    """The modules that code imports from."""
    nodes = list(ast.walk(ast.parse(source)))
    return [
        *(node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)),
        *(alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names),
    ]


@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(BENCHMARKS)) for path in FILES])
def test_a_benchmark_imports_from_packages_and_top_modules_alone(path: Path) -> None:
    """Each tool's integration is a package of its own."""
    modules = imported(path.read_text(encoding="utf-8"))
    ours = [
        module.removeprefix("fedmend.integrations.") for module in modules if module.startswith("fedmend.")
    ]
    assert [module for module in ours if module.count(".") > module.startswith("fedmend.")] == []


def test_some_do() -> None:
    assert len(FILES) > 20
    assert imported("import a.b, c\nfrom d.e import f\ndef g():\n    from h import i") == [
        "d.e",
        "h",
        "a.b",
        "c",
    ]
