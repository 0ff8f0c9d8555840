"""A trigger, an attack and an aggregation rule of the user's own, from TOML, without touching the source."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import planted
from fedmend.checkpoints import read_state
from fedmend.federation import read_config

EXAMPLES = Path(__file__).parents[2] / "examples"

SMALL = """
[data]
source = "{data}"
[model]
architecture = "planted:small"
[training]
epochs = 1
[federation]
clients = 3
clients_per_round = 2
rounds = 2
"""


@pytest.fixture
def simulated(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, importable: None
) -> Callable[..., Path]:
    """Runs an example's rule and attack in a small federation, in the folder of the examples."""
    monkeypatch.chdir(EXAMPLES)
    images, labels = planted.draw(60, seed=2)
    images = images.repeat_interleave(2, 2).repeat_interleave(2, 3)  # as large as the trigger needs
    data = tmp_path / "images.npz"
    np.savez(data, images=images.numpy(), labels=labels.numpy())

    def simulate(name: str, out: str = "run", **changes: str) -> Path:
        text = (EXAMPLES / f"{name}.toml").read_text(encoding="utf-8")
        assert f'"{name}:make"' in text
        own = text.split("rounds = 6\n")[1]
        for old, new in {
            "first_round = 4": "first_round = 1",
            "source = 7": "source = 3",
            "target = 5": "target = 1",
            **changes,
        }.items():
            own = own.replace(old, new)
        config = tmp_path / f"{name}.toml"
        config.write_text(SMALL.format(data=data) + own, encoding="utf-8")
        result = run(
            ["simulate", str(config), "--out", str(tmp_path / out), "--device", "cpu", "--workers", "1"]
        )
        assert (result.code, result.err) == (0, "")
        assert "attack success rate" in result.out
        return tmp_path / out

    return simulate


def last_model(folder: Path) -> dict[str, Any]:
    return read_state(folder / "checkpoints" / "round-0002.safetensors")


def differ(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return any(not first[name].equal(second[name]) for name in first)


def test_a_trigger_of_ones_own(simulated: Callable[..., Path]) -> None:
    folder = simulated("own_trigger")
    example = read_state(folder / "attacker" / "example-0.safetensors")
    change = (example["stamped"] - example["clean"])[0]
    assert change[0, 0] > 0.5
    assert not bool(change[12:, 12:].any())
    assert differ(last_model(folder), last_model(simulated("own_trigger", "weak", **{"0.9": "0.1"})))


def test_an_update_step_of_ones_own(simulated: Callable[..., Path]) -> None:
    folder = simulated("own_attack")
    (attack,) = json.loads((folder / "attacker" / "attacks.json").read_text(encoding="utf-8"))
    assert [step["kind"] for step in attack["update"]] == ["own_attack:make", "amplify"]
    assert differ(last_model(folder), last_model(simulated("own_attack", "whole", **{"0.1": "1.0"})))


def test_an_aggregation_rule_of_ones_own(simulated: Callable[..., Path]) -> None:
    folder = simulated("own_rule")
    state = read_state(folder / "checkpoints" / "round-0002.state.safetensors")
    assert float(state["length"]) > 0
    loose = simulated("own_rule", "loose", **{"limit = 1.5": "limit = 100.0"})
    assert differ(last_model(folder), last_model(loose))


STEP = """
class Step:
    def __call__(self, delta, context):
        return delta {change}
"""


def test_an_error_in_a_step_is_one_line_and_the_corrected_run_begins_anew(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, importable: None
) -> None:
    monkeypatch.chdir(tmp_path)
    images, labels = planted.draw(60, seed=2)
    np.savez("images.npz", images=images.numpy(), labels=labels.numpy())
    trigger = '[[attack]]\n[attack.trigger]\nkind = "box"\n'
    for name, change in (("wrong_step", "/ 0 + {}['size']"), ("right_step", "* 2")):
        Path(f"{name}.py").write_text(STEP.format(change=change), encoding="utf-8")
        text = f'{SMALL.format(data="images.npz")}{trigger}[[attack.update]]\nkind = "{name}:Step"\n'
        Path(f"{name}.toml").write_text(text, encoding="utf-8")
    arguments = ["--out", "run", "--device", "cpu", "--workers", "1"]
    result = run(["simulate", "wrong_step.toml", *arguments])
    assert result.code == 2
    assert (
        result.err
        == f"fedmend: the update step Step failed at {tmp_path / 'wrong_step.py'}:4: KeyError: 'size'\n"
    )
    assert run(["simulate", "right_step.toml", *arguments]).code == 0


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("own_*.toml")), ids=lambda file: str(file.stem))
def test_every_example_of_settings_can_be_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLES)
    config = read_config(file)
    assert config.attack
    assert f"{file.stem}:make" in json.dumps(tomllib.loads(file.read_text(encoding="utf-8")))
    assert file.with_suffix(".py").exists()
