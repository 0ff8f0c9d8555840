"""Settings, as Python makes them: consistent, frozen values."""

import json
from dataclasses import replace
from typing import Any

import pytest

from fedmend.errors import ConfigError
from fedmend.federation import (
    AttackConfig,
    DataConfig,
    FederationConfig,
    ModelConfig,
    SimulationConfig,
    parse_config,
)
from fedmend.local_training import LocalTraining


def test_the_defaults_are_an_honest_federation() -> None:
    config = SimulationConfig()
    assert config.attack == ()
    assert config.data.source == "fashion-mnist-sample"
    assert config.aggregation == {"kind": "fedavg"}
    assert config == parse_config({})


def test_settings_survive_json() -> None:
    attack = AttackConfig(
        attackers=3,
        distributed=True,
        goal={"kind": "several", "pairs": ((1, 2), (3, 4))},
        update=({"kind": "amplify", "factor": 2.0},),
        training=LocalTraining(epochs=4),
    )
    for config in (SimulationConfig(), SimulationConfig(seed=3, attack=(attack, AttackConfig()))):
        text = json.dumps(config.to_dict())
        assert json.dumps(parse_config(json.loads(text)).to_dict()) == text


def test_settings_are_frozen_values() -> None:
    config = SimulationConfig()
    assert replace(config, seed=1) != config
    assert replace(config, seed=0) == config
    with pytest.raises(AttributeError):
        config.seed = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LocalTraining(lr=-1.0), "lr: "),
        (lambda: DataConfig(partition="k_label"), "partition: "),  # type: ignore[arg-type]
        (lambda: ModelConfig(strat="x"), "did you mean start"),  # type: ignore[call-arg]
        (
            lambda: ModelConfig(mean="imagnet"),
            "mean: expected a number, a list of them, or imagenet, .*imagnet",
        ),  # type: ignore[arg-type]
        (lambda: ModelConfig(mean=(0.5, 1.5), std=(0.5,)), "mean"),
        (lambda: ModelConfig(mean=(0.5,), std=(0.0,)), "std"),
        (lambda: ModelConfig(mean=(0.5,)), "mean and std belong together; give std as well"),
        (lambda: FederationConfig(clients=0), "clients: "),
        (lambda: AttackConfig(poisoned_fraction=0.0), "poisoned_fraction: "),
        (lambda: AttackConfig(chosen="last"), "chosen: "),  # type: ignore[arg-type]
        (lambda: SimulationConfig(seed=-1), "seed: "),
        (lambda: SimulationConfig(seed=2**63), "seed: "),
        (lambda: LocalTraining(epochs=10**5000), "epochs: .*a int too large to show"),
        (lambda: LocalTraining(batch_size=10**30), "batch_size: "),
        (lambda: LocalTraining(lr=10**400), "lr: "),
        (lambda: LocalTraining(optimizer="a" * 10**6), r"optimizer: .{,400}\.\.\.$"),  # type: ignore[arg-type]
        (lambda: FederationConfig(aggregation="krum"), "unknown key aggregation"),  # type: ignore[call-arg]
        (lambda: SimulationConfig(aggregation="krum"), "aggregation: "),  # type: ignore[arg-type]
        (lambda: SimulationConfig(aggregation={"kind": "crumb"}), "no aggregation rule 'crumb'"),
        (lambda: AttackConfig(trigger={"kind": "atoms", "shap": "H"}), "shap: did you mean shape"),
        (lambda: AttackConfig(trigger={"kind": "atoms", "shape": "X"}), r"\[attack.trigger\] shape: "),
        (lambda: AttackConfig(trigger={"kind": "blend", "opacity": 2.0}), r"\[attack.trigger\] opacity: "),
    ],
)
def test_settings_made_in_python_are_checked_as_well(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"federation": {"clients": 3, "clients_per_round": 4}},
            "clients_per_round (4) is more than clients (3)",
        ),
        ({"model": {"start": "x", "start_round": 20}}, "must be above [model] start_round (20)"),
        ({"model": {"start_round": 3}}, "start_round needs [model] start"),
        (
            {"attack": [{"attackers": 2}, {}], "federation": {"clients_per_round": 2}},
            "attackers (3) that take part in every round are more than",
        ),
        ({"attack": [{"attackers": 21, "every_round": False}]}, "attackers (21) are more than"),
        ({"attack": [{}, {"first_round": 21}]}, "first_round (21) is after the last round (20)"),
        (
            {"attack": [{"first_round": 3, "last_round": 2}]},
            "last_round (2) is before first_round (3); leave it out",
        ),
        (
            {"attack": [{"goal": {"kind": "one-to-one", "source": 3, "target": 3}}]},
            "[attack.goal] source and target must differ; both are 3",
        ),
        ({"attack": [{"lying_clients": 21}]}, "lying_clients (21) is more than [federation] clients (20)"),
    ],
)
def test_inconsistent_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(settings)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"federation": {"clients": 4, "clients_per_round": 4}},
        {"model": {"start": "x", "start_round": 19}},
        {"attack": [{"attackers": 3, "first_round": 20}], "federation": {"clients_per_round": 3}},
        {"attack": [{"attackers": 10, "every_round": False}, {"attackers": 6}]},
        {"attack": [{"lying_clients": 20, "poisoned_fraction": 1}]},
    ],
    ids=str,
)
def test_the_limits_themselves_are_consistent(settings: dict[str, Any]) -> None:
    assert chosen(settings, parse_config(settings).to_dict()) == settings


def chosen(settings: Any, of: Any) -> Any:
    """The same keys of other settings."""
    if isinstance(settings, dict):
        return {key: chosen(value, of[key]) for key, value in settings.items()}
    if isinstance(settings, list):
        return [chosen(*pair) for pair in zip(settings, of, strict=True)]
    return of
