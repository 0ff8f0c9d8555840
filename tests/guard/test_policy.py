from pathlib import Path
from typing import Any

import pytest

from fedmend.detection import Differential
from fedmend.errors import ConfigError
from fedmend.guard import GuardPolicy
from fedmend.repairs import FIVE_EPOCHS, SharpnessAwareTuning

TOML = """
seed = 3

[guard]
detectors = ["contrastive-paper-mnist", {kind = "differential", effort = "quick"}]
warm_up = 3
every = 2
accuracy_drop = 0.05
inconclusive = "repair"
repair = {kind = "unlearn", epochs = 2}
older_references = [3, 9]
stop_after = 4
"""


def test_the_defaults_need_no_threshold_and_release_nothing_inconclusive() -> None:
    policy = GuardPolicy()
    assert policy.made_detectors() == (Differential(),)
    assert policy.made_repair() == FIVE_EPOCHS
    assert policy.inconclusive == "rollback"
    assert (policy.accuracy_floor, policy.accuracy_drop, policy.time_limit) == (None, None, None)


def test_a_policy_is_read_from_toml_beside_other_tables(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(TOML)
    policy = GuardPolicy.from_toml(file)
    assert policy.made_detectors()[1] == Differential(effort="quick")
    assert policy.older_references == (3, 9)
    repair: Any = policy.made_repair()
    assert repair.epochs == 2
    assert GuardPolicy.from_table(policy.to_dict()) == policy
    assert policy == GuardPolicy(
        detectors=("contrastive-paper-mnist", {"kind": "differential", "effort": "quick"}),  # type: ignore[arg-type]
        warm_up=3,
        every=2,
        accuracy_drop=0.05,
        inconclusive="repair",
        repair={"kind": "unlearn", "epochs": 2},
        older_references=(3, 9),
        stop_after=4,
    )


def test_a_name_is_a_table_of_its_kind() -> None:
    assert GuardPolicy(repair="none").made_repair() is None  # type: ignore[arg-type]
    assert isinstance(GuardPolicy(repair="ft-sam").made_repair(), SharpnessAwareTuning)  # type: ignore[arg-type]
    assert GuardPolicy(detectors=("contrastive-paper-mnist",)).to_dict()["detectors"] == [
        {"kind": "contrastive-paper-mnist"}
    ]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"evry": 2}, r"unknown key \[guard\] evry: did you mean every\?"),
        ({"every": 0}, r"\[guard\] every: .*greater than or equal to 1; got 0"),
        ({"accuracy_floor": 93}, r"\[guard\] accuracy_floor: .*less than or equal to 1; got 93"),
        ({"inconclusive": "accept"}, r"\[guard\] inconclusive: .*'rollback' or 'repair'; got 'accept'"),
        ({"time_limit": 0.0}, r"\[guard\] time_limit"),
        ({"detectors": []}, "expected at least one; got none"),
        ({"detectors": ["diferential"]}, "did you mean differential"),
        ({"detectors": "differential"}, r"\[guard\] detectors"),
        ({"detectors": [{"kind": "differential", "efort": "quick"}]}, "did you mean effort"),
        ({"repair": "prune"}, "there is no repair 'prune'"),
        ({"repair": {"kind": "anp", "epoch": 3}}, r"epoch"),
        ({"history_limit": 5}, r"history_limit \(5\) must be above the largest of older_references \(5\)"),
        ({"older_references": [0]}, r"\[guard\] older_references"),
        ({"first_detectors": ["differential"]}, "first_detectors must need no reference; Differential does"),
        ({"warm_up": 2, "trusted": "a.pt"}, "trusted and warm_up are several beginnings"),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else None,
)
def test_what_cannot_be_is_refused(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GuardPolicy.from_table(table)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "can't read .*policy.toml: No such file"),
        (b"[guard", "is not valid TOML"),
        (b"\xff", "is not valid TOML"),
        (b"[training]\nlr = 1", r"holds no table \[guard\]"),
        (b"guard = 3", r"holds no table \[guard\]"),
        (b"[guard]\nevry = 1", r"policy.toml: unknown key \[guard\] evry"),
    ],
)
def test_a_file_without_a_policy_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    file = tmp_path / "policy.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        GuardPolicy.from_toml(file)
