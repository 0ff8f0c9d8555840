from pathlib import Path
from typing import Any

import pytest

from fedmend.checked_settings import Positive, settings
from fedmend.errors import ConfigError
from fedmend.kinds import find_kind, from_table


@settings
class Scale:
    """Multiplies."""

    factor: Positive = 2.0

    def __call__(self, value: float) -> float:
        """The product."""
        return self.factor * value


KINDS: dict[str, Any] = {"scale": Scale, "two-words": lambda offset: lambda value: value + offset}


def test_the_tables_entries_are_the_settings() -> None:
    assert from_table({"kind": "scale", "factor": 3.0}, KINDS, "step")(2) == 6


def test_what_is_given_goes_to_every_kind() -> None:
    assert from_table({"kind": "Two_Words"}, KINDS, "step", offset=5)(2) == 7


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({}, "step: expected a kind, one of scale, two-words; got None"),
        ({"kind": "scal"}, "there is no step 'scal'; did you mean scale?"),
        ({"kind": "krum"}, "there is no step 'krum'; expected scale, two-words, or package.module:factory"),
        ({"kind": "scale", "factr": 1}, "unknown key factr: did you mean factor?"),
        ({"kind": "scale", "factor": -1.0}, "factor: input should be greater than 0"),
        ({"kind": "nowhere:make"}, "there is no module 'nowhere' for the step 'nowhere:make'"),
    ],
)
def test_a_bad_table(table: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_table(table, KINDS, "step")
    assert told in str(caught.value)


def test_what_fedmend_gives_is_not_for_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shapeless.py").write_text("def make():\n    return print\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="two-words is given offset by fedmend; leave it out of the table"):
        from_table({"kind": "two-words", "offset": 1}, KINDS, "step", offset=5)
    with pytest.raises(ConfigError, match=r"shapeless:make must take offset by keyword, .* here 5"):
        from_table({"kind": "shapeless:make"}, KINDS, "step", offset=5)


def test_one_of_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_step.py").write_text(
        "def make(power):\n    return lambda value: value ** power\n\ndef fails():\n    raise OSError('no disk')\n"
    )
    monkeypatch.chdir(tmp_path)
    assert from_table({"kind": "own_step:make", "power": 3}, KINDS, "step")(2) == 8
    with pytest.raises(
        ConfigError, match=r"own_step:make failed when called with \(\): TypeError.*what makes the step"
    ):
        from_table({"kind": "own_step:make"}, KINDS, "step")
    with pytest.raises(ConfigError, match=r"own_step:fails failed when called with \(\): OSError: no disk"):
        from_table({"kind": "own_step:fails"}, KINDS, "step")
    with pytest.raises(ConfigError, match=r"own_step .* has no 'mak'.*did you mean make"):
        from_table({"kind": "own_step:mak"}, KINDS, "step")


def test_a_kind_by_name() -> None:
    assert find_kind(" Scale ", KINDS, "step") is Scale
