"""Check the shape of the source: lengths of files and signatures, names of modules, and the public names."""

from __future__ import annotations

import argparse
import ast
import itertools
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

MOST_PARAMETERS = 6
MOST_LINES = 300
_FOLDERS = ("src", "tests", "benchmarks", "examples", "scripts")
_SUFFIXES = (".py", ".html")
_REPEATED = ("__init__", "base")  # names that modules of several packages share by design

_Function = ast.FunctionDef | ast.AsyncFunctionDef


def main() -> None:
    """Print each violation on a line of its own; exit code 1 if there is any."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path, nargs="?", default=Path(__file__).parents[1])
    violations = list(check(parser.parse_args().root))
    print("\n".join(violations), end="\n" if violations else "")
    sys.exit(1 if violations else 0)


def check(root: Path) -> Iterator[str]:
    """Every violation in the tree at ``root``, as a line of text."""
    files = sorted(path for folder in _FOLDERS for path in (root / folder).rglob("*") if _is_ours(path, root))
    package = root / "src" / "fedmend"
    yield from long_files(root, files)
    yield from long_signatures(root, [path for path in files if package / "cli" not in path.parents])
    modules = [path for path in files if package in path.parents and path.suffix == ".py"]
    yield from repeated_names(package, modules)
    yield from modules_named_like_functions(package, modules)
    yield from untrue_public_names(package)


def long_files(root: Path, files: list[Path]) -> Iterator[str]:
    """Files of more than 300 lines."""
    for path in files:
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > MOST_LINES:
            yield f"{path.relative_to(root)}: {lines} lines, at most {MOST_LINES}"


def long_signatures(root: Path, files: list[Path]) -> Iterator[str]:
    """Functions and methods of more than 6 parameters.

    ``self`` and ``cls`` don't count, nor do functions inside of functions, nor a test's parameters: they are fixtures
    and cases.
    """
    for path in files:
        if path.suffix != ".py":
            continue
        for function, is_method in _functions(_parsed(path).body):
            is_test = "tests" in path.relative_to(root).parts and function.name.startswith("test_")
            count = _parameters(function, is_method)
            if count > MOST_PARAMETERS and not is_test:
                where = f"{path.relative_to(root)}:{function.lineno}"
                yield f"{where}: {function.name}() has {count} parameters, at most {MOST_PARAMETERS}"


def repeated_names(package: Path, modules: list[Path]) -> Iterator[str]:
    """Names that several modules or packages share, apart from ``base``."""
    by_name = defaultdict(list)
    for path in modules:
        by_name[_module_name(path)].append(str(path.relative_to(package)))
    for name, paths in sorted(by_name.items()):
        if len(paths) > 1 and name not in _REPEATED:
            yield f"several modules are called {name}: {', '.join(paths)}"


def modules_named_like_functions(package: Path, modules: list[Path]) -> Iterator[str]:
    """Modules that share their name with a public function of any module."""
    names = {_module_name(path): path.relative_to(package) for path in modules}
    for path in modules:
        for function, is_method in _functions(_parsed(path).body):
            if not is_method and function.name in names:
                where = f"{path.relative_to(package)}:{function.lineno}"
                yield f"{names[function.name]} shares its name with the function at {where}"


def untrue_public_names(package: Path) -> Iterator[str]:
    """Names that ``fedmend.__all__`` lists and the package lacks, or the other way round."""
    public: list[str] = []
    homes: dict[str, tuple[str, ...]] = {}
    for node in _parsed(package / "__init__.py").body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            public = ast.literal_eval(node.value) if name == "__all__" else public
            homes = ast.literal_eval(node.value) if name == "_HOMES" else homes
    offered = {name for names in homes.values() for name in names}
    for name in sorted(offered ^ set(public)):
        missing = "_HOMES" if name in public else "__all__"
        yield f"__init__.py: {name} is missing in {missing}"
    for module, names in homes.items():
        path = package.joinpath(*module.split(".")[1:])
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        defined = _top_level_names(_parsed(path)) if path.is_file() else set()
        for name in names:
            if name not in defined:
                yield f"__init__.py: {module} has no {name}"


def _is_ours(path: Path, root: Path) -> bool:
    hidden = any(
        part.startswith(".") or part in ("__pycache__", "runs", "results")
        for part in path.relative_to(root).parts
    )
    return path.suffix in _SUFFIXES and path.is_file() and not hidden


def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def _functions(body: list[ast.stmt], is_method: bool = False) -> Iterator[tuple[_Function, bool]]:
    """Functions and methods, and whether they are methods; none that is inside of a function."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from _functions(node.body, True)
        elif isinstance(node, _Function):
            yield node, is_method


def _parameters(function: _Function, is_method: bool) -> int:
    arguments = function.args
    count = len(arguments.posonlyargs) + len(arguments.args) + len(arguments.kwonlyargs)
    count += (arguments.vararg is not None) + (arguments.kwarg is not None)
    static = any(isinstance(each, ast.Name) and each.id == "staticmethod" for each in function.decorator_list)
    return count - (is_method and not static)


def _module_name(path: Path) -> str:
    return path.parent.name if path.stem == "__init__" else path.stem


def _top_level_names(tree: ast.Module) -> set[str]:
    """Names that a module defines or imports, also for type checkers alone."""
    names: set[str] = set()
    guarded = [node.body for node in tree.body if isinstance(node, ast.If)]
    for node in itertools.chain(tree.body, *guarded):
        if isinstance(node, ast.ClassDef | _Function):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names.update(target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
        elif isinstance(node, ast.ImportFrom):
            names.update(alias.asname or alias.name for alias in node.names)
    return names


if __name__ == "__main__":
    main()
