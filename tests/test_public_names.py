import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import fedmend
import fedmend.repairs

LAZY = [fedmend, fedmend.repairs]


@pytest.mark.parametrize(("package", "name"), [(each, name) for each in LAZY for name in each.__all__])
def test_every_public_name_is_there(package: ModuleType, name: str) -> None:
    """The same object as in its home, and kept once it was looked up."""
    value = getattr(package, name)
    home = next(module for module, names in package._HOMES.items() if name in names)
    assert value is getattr(import_module(home), name)
    assert vars(package)[name] is value


@pytest.mark.parametrize("package", LAZY)
def test_type_checkers_and_python_see_the_same_names(package: ModuleType) -> None:
    tree = ast.parse(Path(str(package.__file__)).read_text(encoding="utf-8"))
    (static,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        node.module: tuple(name.name for name in node.names)
        for node in static.body
        if isinstance(node, ast.ImportFrom)
    }
    assert seen == package._HOMES
    names = [name for names in package._HOMES.values() for name in names]
    assert sorted(package.__all__) == sorted(names)
    assert len(set(names)) == len(names)
    assert set(names) <= set(dir(package))


def test_other_names_are_missing() -> None:
    with pytest.raises(AttributeError, match="no attribute 'scna'"):
        _ = fedmend.scna
    with pytest.raises(ImportError):
        from fedmend import scna  # noqa: F401


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, fedmend; fedmend.FedmendError; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
