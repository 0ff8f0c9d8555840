from typing import Any

from benchmarks.unchanged import differences


def results(**model: Any) -> dict[str, Any]:
    return {"models": {"sba-one": model, "other": {"asr": 1.0}}}


def test_the_same_but_for_times_and_what_only_one_holds() -> None:
    before = results(verdict="clean", asr=0.5, scan_seconds=1.0, old=1)
    assert differences(before, results(verdict="clean", asr=0.5, scan_seconds=2.0, new=1)) == []


def test_each_difference_is_named() -> None:
    before = results(
        verdict="clean", stages=[{"asr": 0.5, "name": "pruned"}, {"asr": 0.1, "name": "fine-tuned"}]
    )
    after = results(
        verdict="backdoored", stages=[{"asr": 0.5, "name": "pruned"}, {"asr": 0.2, "name": "fine-tuned"}]
    )
    assert differences(before, after) == [
        "sba-one: verdict: clean -> backdoored",
        "sba-one: stages[1]: asr: 0.1 -> 0.2",
    ]
