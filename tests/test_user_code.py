import importlib
import re
import signal
import statistics
import sys
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import pytest
import torch

from fedmend.errors import ConfigError, DataError
from fedmend.goals import AllToOne
from fedmend.user_code import (
    FolderFinder,
    accepts,
    current_folder_importable,
    failures_as,
    failures_named,
    is_users,
    load_factory,
    modules_in,
    name_of,
    tensor_in_words,
)

CODE = """\
import sys

def divide(value):
    return value / 0

class Step:
    def __call__(self, value):
        return divide(value)

def leave():
    sys.exit(1)

def refuse():
    from fedmend.errors import DataError
    raise DataError("in words of its own")

def fill():
    raise MemoryError
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    name = f"mine_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module(name)


def test_a_failure_says_what_where_and_why(mine: ModuleType) -> None:
    with (
        pytest.raises(ConfigError, match=re.escape("the update step Step failed at")) as caught,
        failures_named("update step", mine.Step()),
    ):
        mine.Step()(1)
    assert str(caught.value).endswith(f"{mine.__file__}:4: ZeroDivisionError: division by zero")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_wrong_call_names_the_file(mine: ModuleType) -> None:
    with (
        pytest.raises(ConfigError, match=rf"Step failed \({mine.__file__}\): TypeError.*3 were given"),
        failures_named("rule", mine.Step()),
    ):
        mine.Step()(1, 2)


def test_leaving_python_is_a_failure(mine: ModuleType) -> None:
    with pytest.raises(ConfigError, match="the rule leave failed"), failures_named("rule", mine.leave):
        mine.leave()


@pytest.mark.parametrize(("name", "kind"), [("refuse", DataError), ("fill", MemoryError)])
def test_an_error_in_words_and_a_full_memory_come_out_as_they_are(
    mine: ModuleType, name: str, kind: type[Exception]
) -> None:
    method = getattr(mine, name)
    with pytest.raises(kind), failures_named("rule", method):
        method()


def test_a_failure_of_fedmends_own_method_is_a_bug() -> None:
    with pytest.raises(ZeroDivisionError), failures_named("goal", AllToOne(1)):
        1 / 0  # noqa: B018


def test_whose_a_method_is(mine: ModuleType) -> None:
    assert is_users(mine.Step())
    assert is_users(mine.divide)
    assert not is_users(AllToOne(1))
    assert not is_users(load_factory)
    assert (name_of(mine.Step()), name_of(mine.divide)) == ("Step", "divide")


def test_a_missing_factory_comes_with_the_file_and_what_it_has(mine: ModuleType) -> None:
    with pytest.raises(ConfigError) as caught:
        load_factory(f"{mine.__name__}:make", "step", ConfigError)
    assert f"{mine.__name__} (imported from {mine.__file__}) has no 'make'" in str(caught.value)
    assert str(caught.value).endswith("it has divide, Step, leave, refuse, fill")


def test_a_file_of_ones_own_named_like_one_of_pythons_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "statistics.py").write_text("make = dict")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=rf"imported from {statistics.__file__}\) has no 'make'"):
        load_factory("statistics:make", "rule", ConfigError)


def test_what_can_be_given_by_keyword() -> None:
    assert accepts(lambda shape: None, "shape")
    assert accepts(lambda **settings: None, "shape")
    assert not accepts(lambda shape, /: None, "shape")
    assert not accepts(lambda: None, "shape")
    assert accepts(AllToOne, "target")
    assert not accepts(AllToOne, "shape")


def test_tensors_in_words() -> None:
    assert tensor_in_words(None) == "a NoneType"
    assert tensor_in_words(torch.zeros(2).numpy()) == "a ndarray"
    assert tensor_in_words(torch.zeros(2, 3)) == "torch.float32 (2, 3)"
    assert tensor_in_words(torch.zeros(2, device="meta")) == "torch.float32 (2,) on meta"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder; modules imported from it are forgotten after the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return tmp_path


@pytest.mark.parametrize("name", ["this", "networkx", "somebodys"])
def test_files_called_like_modules_are_not_imported_from_the_current_folder(folder: Path, name: str) -> None:
    """One of Python's, one that is installed, and one that is neither; whoever imports them."""
    sys.modules.pop(name, None)
    (folder / f"{name}.py").write_text("raise SystemExit('it ran')")
    with current_folder_importable("mine:make"), suppress(ImportError):
        importlib.import_module(name)


def test_a_factorys_module_imports_from_its_own_folder_but_none_of_pythons_modules(folder: Path) -> None:
    (folder / "own_one.py").write_text(
        "import own_two, this\nfrom own_package import part\nmake = own_two.make\n"
    )
    (folder / "own_two.py").write_text("def make():\n    import own_three\n    return own_three.__name__")
    (folder / "own_three.py").write_text("")
    (folder / "own_package").mkdir()
    (folder / "own_package" / "part.py").write_text("")
    (folder / "this.py").write_text("raise SystemExit('it ran')")
    sys.modules.pop("this", None)
    with current_folder_importable("own_one:make"):
        assert load_factory("own_one:make", "rule", ConfigError)() == "own_three"
    assert sorted(modules_in(str(folder))) == ["own_one", "own_package", "own_three", "own_two"]
    assert not any(isinstance(finder, FolderFinder) for finder in sys.meta_path)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def __getattr__(name): return 1 / 0", "looking for make in own_odd failed: ZeroDivisionError"),
        ("def __getattr__(name): raise SystemExit(0)", "looking for make in own_odd failed: SystemExit: 0"),
        ("def __getattr__(name): return None", "is a NoneType; expected a function"),
        ("import sys; del sys.modules[__name__]", "importing own_odd failed: KeyError"),
        ("raise KeyboardInterrupt", "importing own_odd failed: KeyboardInterrupt; it must import cleanly"),
        ("import sys; sys.exit(0)", "importing own_odd failed: SystemExit: 0"),
        ("make = property(1)\ndef __dir__(): raise OSError", "is a property; expected a function"),
    ],
)
def test_odd_modules_are_refused_in_one_line(folder: Path, code: str, message: str) -> None:
    (folder / "own_odd.py").write_text(code)
    with pytest.raises(ConfigError, match=message) as caught:
        load_factory("own_odd:make", "rule", ConfigError)
    assert "\n" not in str(caught.value)


def test_a_signature_that_fails_accepts_anything() -> None:
    class Odd:
        @property
        def __signature__(self) -> object:
            raise KeyError

        def __call__(self) -> None: ...

    assert accepts(Odd(), "shape")


def test_ctrl_c_in_a_users_code_is_no_failure_of_it() -> None:
    with pytest.raises(KeyboardInterrupt), failures_as(ConfigError, "it failed"):
        signal.raise_signal(signal.SIGINT)
    with (
        pytest.raises(ConfigError, match="it failed: KeyboardInterrupt"),
        failures_as(ConfigError, "it failed"),
    ):
        raise KeyboardInterrupt
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
