from collections.abc import Callable
from pathlib import Path

import pytest

import check_shape

Tree = Callable[..., list[str]]

INIT = '_HOMES = {"fedmend.tools": ("cut",)}\n__all__ = ["cut"]\n'
SEVEN = "a, b, c, d, e, f, g"


@pytest.fixture
def violations(tmp_path: Path) -> Tree:
    """Violations in a small tree that is in order, with the given files added or replaced: a__b is a/b.py."""

    def find(**files: str) -> list[str]:
        tree = {
            "src/fedmend/__init__.py": INIT,
            "src/fedmend/tools.py": "def cut(a, b, c, d, e, f): ...\n",
            "src/fedmend/one/base.py": "",
            "src/fedmend/two/base.py": "",
        }
        for name, text in files.items():
            tree[f"{name.replace('__', '/').replace('/init', '/__init__')}.py"] = text
        for name, text in tree.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return list(check_shape.check(tmp_path))

    return find


def test_a_tree_in_order(violations: Tree) -> None:
    assert violations() == []


@pytest.mark.parametrize("folder", ["src__fedmend", "tests", "benchmarks__speed", "examples", "scripts"])
def test_long_files(violations: Tree, folder: str) -> None:
    assert violations(**{f"{folder}__long": "\n" * 300}) == []
    (told,) = violations(**{f"{folder}__long": "\n" * 301})
    assert told == f"{folder.replace('__', '/')}/long.py: 301 lines, at most 300"
    # Nor templates, but what a run or a tool left there is not ours.
    assert violations(**{f"{folder}__long": ""}) == []


def test_long_templates(violations: Tree, tmp_path: Path) -> None:
    for name in ("src/fedmend/page.html", "src/fedmend/style.css", "benchmarks/runs/page.html"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("\n" * 301, encoding="utf-8")
    assert violations() == ["src/fedmend/page.html: 301 lines, at most 300"]


@pytest.mark.parametrize(
    ("code", "count"),
    [
        (f"def work({SEVEN}): ...", 7),
        (f"async def work({SEVEN}): ...", 7),
        ("def work(a, b, /, c, d, *, e, f, g): ...", 7),
        ("def work(a, b, c, d, e, *f, **g): ...", 7),
        (f"class C:\n    def work(self, {SEVEN}): ...", 7),
        (f"class C:\n    class D:\n        @classmethod\n        def work(cls, {SEVEN}): ...", 7),
        (f"class C:\n    @staticmethod\n    def work({SEVEN}): ...", 7),
        ("class C:\n    def work(self, a, b, c, d, e, f): ...", 0),
        (f"def work():\n    def nested({SEVEN}): ...", 0),
    ],
)
def test_long_signatures(violations: Tree, code: str, count: int) -> None:
    for module in ("src__fedmend__long", "tests__helpers", "benchmarks__long"):
        found = violations(**{module: code})
        assert len(found) == (count > 0)
        assert all(f"work() has {count} parameters, at most 6" in told for told in found)
        violations(**{module: ""})


def test_long_signatures_that_may_be(violations: Tree) -> None:
    """Commands have an option a parameter, and tests a fixture or a case."""
    assert violations(src__fedmend__cli__work_command=f"def work({SEVEN}): ...") == []
    assert violations(tests__test_work=f"def test_work({SEVEN}): ...") == []


def test_modules_of_one_name(violations: Tree) -> None:
    (told,) = violations(src__fedmend__one__rules="", src__fedmend__two__rules="")
    assert told == "several modules are called rules: one/rules.py, two/rules.py"


def test_a_module_and_a_package_of_one_name(violations: Tree) -> None:
    (told,) = violations(src__fedmend__two__init="", src__fedmend__one__two="")
    assert told == "several modules are called two: one/two.py, two/__init__.py"


def test_modules_named_like_functions(violations: Tree) -> None:
    (told,) = violations(src__fedmend__one__cut="")
    assert told == "one/cut.py shares its name with the function at tools.py:1"
    assert (
        violations(
            src__fedmend__one__cut="", src__fedmend__tools="class C:\n    def cut(self): ...\ncut = C()\n"
        )
        == []
    )


@pytest.mark.parametrize(
    ("init", "told"),
    [
        (INIT.replace('["cut"]', '["cut", "saw"]'), "__init__.py: saw is missing in _HOMES"),
        (INIT.replace('["cut"]', "[]"), "__init__.py: cut is missing in __all__"),
        (INIT.replace("cut", "saw"), "__init__.py: fedmend.tools has no saw"),
        (INIT.replace("tools", "gone"), "__init__.py: fedmend.gone has no cut"),
    ],
)
def test_public_names_that_are_not_true(violations: Tree, init: str, told: str) -> None:
    assert violations(src__fedmend__init=init) == [told]


def test_public_names_of_a_package(violations: Tree) -> None:
    init = INIT.replace("tools", "one")
    assert (
        violations(src__fedmend__init=init, src__fedmend__one__init="from fedmend.tools import cut\n") == []
    )


def test_the_command(
    violations: Tree, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["check_shape.py", str(tmp_path)])
    for long, code in (("", 0), ("\n" * 301, 1)):
        violations(src__fedmend__long=long)
        with pytest.raises(SystemExit) as stop:
            check_shape.main()
        assert stop.value.code == code
        assert capsys.readouterr().out.count("\n") == code
