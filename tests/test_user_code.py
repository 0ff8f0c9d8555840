import importlib
import re
import statistics
from pathlib import Path
from types import ModuleType

import pytest
import torch

from fedmend.errors import ConfigError, DataError
from fedmend.goals import AllToOne
from fedmend.user_code import accepts, failures_named, is_users, load_factory, name_of, tensor_in_words

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
