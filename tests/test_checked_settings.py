import pickle
from dataclasses import FrozenInstanceError, asdict, field, replace
from typing import Any, Literal

import pytest

from fedmend.checked_settings import Count, Flag, Fraction, NonNegative, Positive, names_of, settings
from fedmend.errors import ConfigError


@settings
class Inner:
    """Settings within others."""

    lr: Positive = 0.1
    kind: Literal["adam", "sgd"] = "adam"


@settings
class Outer:
    """Settings of every type."""

    epochs: Count = 3
    weight: NonNegative = 0.0
    part: Fraction = 0.5
    fast: Flag = False
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self) -> None:
        if self.fast and self.epochs > 5:
            raise ConfigError("fast goes with at most 5 epochs")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"epochs": 0}, "epochs: input should be greater than or equal to 1; got 0"),
        ({"epochs": True}, "epochs: input should be a valid integer; got True"),
        ({"epochs": "3"}, "epochs: input should be a valid integer; got '3'"),
        ({"weight": float("inf")}, "weight: input should be a finite number; got inf"),
        ({"part": 1.5}, "part: input should be less than or equal to 1; got 1.5"),
        ({"fast": 1}, "fast: input should be a valid boolean; got 1"),
        ({"epoch": 3}, "unknown key epoch: did you mean epochs?"),
        ({"zzz": 3}, "unknown key zzz: expected one of epochs, weight, part, fast, inner"),
        ({"inner": {"lr": -1}}, "inner.lr: input should be greater than 0; got -1"),
        ({"fast": True, "epochs": 6}, "fast goes with at most 5 epochs"),
    ],
)
def test_what_is_wrong_is_named(values: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Outer(**values)
    assert told in str(caught.value)


def test_several_mistakes_are_told_at_once() -> None:
    with pytest.raises(ConfigError, match=r"epochs: .*; part: "):
        Outer(epochs=0, part=2.0)


def test_a_positional_value_has_its_name() -> None:
    with pytest.raises(ConfigError, match=r"^Outer: part: "):
        Outer(3, 0.0, 2.0)


def test_a_replaced_value_is_checked_too() -> None:
    with pytest.raises(ConfigError, match="part"):
        replace(Outer(), part=-1.0)


def test_they_are_frozen_plain_values() -> None:
    made = Outer(epochs=2, inner=Inner(lr=1))
    assert asdict(made)["inner"] == {"lr": 1.0, "kind": "adam"}
    assert pickle.loads(pickle.dumps(made)) == made
    assert hash(made) == hash(Outer(epochs=2, inner=Inner(lr=1.0)))
    assert names_of(Inner) == ["lr", "kind"]
    with pytest.raises(FrozenInstanceError):
        made.epochs = 4  # type: ignore[misc]
