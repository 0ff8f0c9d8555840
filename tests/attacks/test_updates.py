"""Update steps from tables, as TOML files give them."""

from typing import Any

import pytest

from fedmend.attacks import UPDATE_STEPS, Amplify, Project, UpdateStep, update_step_from_table
from fedmend.errors import ConfigError


@pytest.mark.parametrize(
    ("table", "step"),
    [
        ({"kind": "amplify", "factor": 4}, Amplify(4.0)),
        ({"kind": "project", "radius": 0.5}, Project(0.5)),
    ],
)
def test_a_table_gives_the_step_that_it_describes(table: dict[str, Any], step: UpdateStep) -> None:
    assert update_step_from_table(table) == step


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"kind": "amplification"}, "no update step 'amplification'"),
        ({"kind": "amplify"}, "factor"),
        ({"kind": "amplify", "factor": 0.5}, r"factor: .* got 0\.5"),
        ({"kind": "amplify", "faktor": 2.0}, r"did you mean factor\?"),
    ],
)
def test_bad_tables_are_refused(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        update_step_from_table(table)


def test_what_can_not_be_called_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(UPDATE_STEPS, "nothing", lambda: 5)  # type: ignore[arg-type, return-value]
    with pytest.raises(ConfigError, match=r"callable as step\(delta, context\); got a int"):
        update_step_from_table({"kind": "nothing"})
