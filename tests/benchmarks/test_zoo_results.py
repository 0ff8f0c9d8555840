import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "zoo"))

from benchmarks.zoo.figures import area, curve, in_both
from benchmarks.zoo.scans import hits, is_named, is_narrowed, is_right, lead, rate, strays
from benchmarks.zoo.tables import tables
from benchmarks.zoo.targets import RATIOS, agreeing, targets
from calibrate import calibration, shares

Scan = dict[str, Any]


def scan(**changes: Any) -> Scan:
    """A scan that found an all-to-one backdoor."""
    return {
        "cell": "mnist-convnet",
        "name": "test-patch-3-0",
        "kind": "backdoored",
        "family": "patch-3",
        "federation": "mnist-convnet/test-1",
        "seed": 0,
        "verdict": "backdoored",
        "want": [[None, 4]],
        "found": [[None, 4, 0.9]],
        "measures": {"lead_patch_all_to_one": 2.5},
        "iou": [0.6],
        "asr": [0.97],
        "images": 200,
        "seconds": 3.0,
        "passes": 9000,
        "commit": "0" * 12,
        "torch": "2",
        "machine": "2 cores",
    } | changes


def honest(name: str, **changes: Any) -> Scan:
    clean = {"kind": "clean", "family": "rounds", "verdict": "clean", "want": [], "iou": [], "asr": []}
    return scan(name=name, found=[[None, 1, 0.2]], measures={"lead_patch_all_to_one": 0.1}, **clean) | changes


def folder(path: Path, scans: list[Scan], **plan: int) -> Path:
    lines = "".join(json.dumps(each) + "\n" for each in scans)
    (path / "test-differential-standard.jsonl").write_text(lines, encoding="utf-8")
    counts = {f"mnist-convnet/{key.replace('__', '/').replace('_', '-')}": n for key, n in plan.items()}
    (path / "zoo.json").write_text(json.dumps({"test": counts | {"both": 1}}), encoding="utf-8")
    return path


def statuses(results: Path) -> dict[str, str]:
    return {line.name: line.status for line in targets(results, results)}


@pytest.mark.parametrize(
    ("want", "found", "expected"),
    [
        ([[None, 4]], [[None, 4]], [True]),
        ([[None, 4]], [[2, 4]], [True]),
        ([[None, 4]], [[None, 3]], [False]),
        ([[1, 4]], [[1, 4]], [True]),
        ([[1, 4]], [[None, 4]], [False]),
        ([[1, 4]], [[2, 4]], [False]),
        ([[None, 4], [None, 5]], [[None, 5]], [False, True]),
    ],
)
def test_a_pair_is_found_only_with_its_source(
    want: list[list[int | None]], found: list[list[int | None]], expected: list[bool]
) -> None:
    one = scan(want=want, found=[[*each, 0.9] for each in found])
    assert hits(one) == expected
    assert is_named(one) is any(expected)
    assert not is_named(one | {"verdict": "inconclusive"})


def test_right_is_a_named_target_or_a_clean_model_called_clean() -> None:
    assert is_right(scan())
    assert not is_right(scan(found=[[None, 3, 0.9]]))
    assert is_right(honest("a"))
    assert not is_right(honest("a", verdict="inconclusive"))
    assert strays(scan(found=[[None, 4, 0.9], [None, 3, 0.9]])) == 1


@pytest.mark.parametrize(
    ("want", "found", "expected"),
    [
        ([[None, 4]], [[3, 4]], True),
        ([[None, 4]], [[3, 4], [None, 4]], False),
        ([[None, 4]], [[3, 5]], False),  # not found at all
        ([[3, 4]], [[3, 4]], False),
        ([[None, 4], [None, 5]], [[None, 4], [3, 5]], True),
    ],
)
def test_a_backdoor_for_all_classes_may_be_named_as_one_of_a_source_class(
    want: list[list[int | None]], found: list[list[int | None]], expected: bool
) -> None:
    one = scan(want=want, found=[[*each, 0.9] for each in found])
    assert is_narrowed(one) is expected
    assert not is_narrowed(one | {"verdict": "inconclusive"})


def test_the_lead_is_the_largest_in_units_of_its_limit_and_leaves_out_that_in_both_models() -> None:
    measures = {
        "lead_a": 0.2,
        "lead_b": 0.4,
        "lead_addition_in_both_models": 3.0,
        "lead_in_both_models": 3.0,
        "p_value": 1.0,
    }
    assert lead(scan(measures=measures)) == 0.5  # of 0.8
    assert lead(scan(measures={"lead_a": 0.4, "lead_patch_one_to_one": 0.9})) == pytest.approx(0.75)  # of 1.2
    assert lead(scan(measures={})) == 0.0


def test_without_results_nothing_was_run(tmp_path: Path) -> None:
    assert set(statuses(tmp_path).values()) == {"not run"}
    assert "0 of 0 models" in tables(tmp_path)


def test_targets_are_met_on_all_planned_models_only(tmp_path: Path) -> None:
    scans = [scan(), honest("a")]
    found = statuses(folder(tmp_path, scans, backdoored__patch_3=1, clean__rounds=1))
    small = "patches up to 8x8 and atoms, ASR at least 80 %"
    names = ("backdoored models called clean", "honest models called backdoored", small)
    assert [found[name] for name in names] == ["met"] * 3
    assert found["one-to-one"] == "not run"
    found = statuses(folder(tmp_path, scans, backdoored__patch_3=2, clean__rounds=1))
    assert [found[name] for name in names] == ["incomplete", "met", "incomplete"]


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        (
            {"verdict": "clean"},
            {"patches up to 8x8 and atoms, ASR at least 80 %", "backdoored models called clean"},
        ),
        ({"found": [[None, 3, 0.9]]}, {"patches up to 8x8 and atoms, ASR at least 80 %"}),
        ({"asr": [0.79], "verdict": "clean"}, {"backdoored models called clean"}),
        (honest("b", verdict="backdoored"), {"honest models called backdoored"}),
        (honest("b", verdict="inconclusive"), {"honest models left inconclusive"}),
    ],
)
def test_what_is_wrong_is_missed(tmp_path: Path, change: Scan, missed: set[str]) -> None:
    found = statuses(folder(tmp_path, [scan(**change), honest("a")], backdoored__patch_3=1, clean__rounds=1))
    assert {name for name, status in found.items() if status == "missed"} == missed


def test_each_large_or_faint_kind_has_to_be_found(tmp_path: Path) -> None:
    scans = [scan(family="patch-12", name=str(number)) for number in range(30)]
    scans += [scan(family="blend", name="blend", verdict="clean")]
    found = statuses(folder(tmp_path, scans, backdoored__patch_12=30, backdoored__blend=1))
    assert found["12x12 patches, blended, sinusoids"] == "missed"


def test_agreement_is_with_the_majority() -> None:
    own = [scan(seed=seed, verdict="clean" if seed < 3 else "backdoored") for seed in range(10)]
    assert agreeing([own]) == (7, 10)


def test_only_models_with_all_seeds_count_for_agreement(tmp_path: Path) -> None:
    own = [scan(seed=seed) for seed in range(10)] + [scan(name="other", verdict="clean")]
    folder(tmp_path, own, backdoored__patch_3=2)
    (line,) = (line for line in targets(tmp_path) if line.name == "same verdict over 10 seeds")
    assert (line.n, line.planned, line.status) == (10, 20, "incomplete")


def test_the_median_of_the_ratios_decides(tmp_path: Path) -> None:
    turns = [
        {"fedmend": {"seconds": 1.0}, "neural-cleanse": {"seconds": seconds, "complete": True}}
        for seconds in (5.0, 31.0, 31.0, 31.0, 31.0, 5.0)
    ]
    (tmp_path / "yardstick.json").write_text(json.dumps({"turns": dict.fromkeys(RATIOS, turns)}))
    found = [line.status for line in targets(tmp_path) if "Neural Cleanse" in line.name]
    assert found == ["met", "met", "missed"]


def test_growth_counts_only_of_the_default(tmp_path: Path) -> None:
    path = tmp_path / "speed" / "results" / "growth.json"
    path.parent.mkdir(parents=True)
    points = [{"classes": classes, "seconds": seconds} for classes, seconds in ((10, 2.0), (1000, 6.1))]
    for method, expected in (("contrastive-paper", "not run"), ("differential", "missed")):
        path.write_text(json.dumps({"axes": {"classes": points}, "method": method}), encoding="utf-8")
        assert statuses(tmp_path)["1,000 classes against 10"] == expected


def test_verdicts_of_the_detection_benchmark(tmp_path: Path) -> None:
    path = tmp_path / "detection" / "results" / "seeds.json"
    path.parent.mkdir(parents=True)
    right = {"sba": [{"verdict": "backdoored"}] * 120, "clean": [{"verdict": "clean"}] * 120}
    file = {"mnist": {"differential": right}, "targets": {"mnist/sba": 3, "mnist/clean": None}}
    name = "verdicts of the detection benchmark, ten seeds"
    path.write_text(json.dumps(file), encoding="utf-8")
    assert statuses(tmp_path)[name] == "met"
    right["clean"][0] = {"verdict": "inconclusive"}
    path.write_text(json.dumps(file), encoding="utf-8")
    assert statuses(tmp_path)[name] == "missed"


def test_tables_show_failures_with_their_measures(tmp_path: Path) -> None:
    scans = [scan(), scan(name="missed", verdict="clean"), honest("a"), honest("b", verdict="backdoored")]
    text = tables(folder(tmp_path, scans, backdoored__patch_3=3, clean__rounds=2))
    assert "**Incomplete: 4 of 5 models" in text
    assert "| patch-3 | 97 % (97 to 97) | 1/2 (1 to 99 %) | 1 of 2 | 1/2 (1 to 99 %) |" in text
    assert "| mnist-convnet, missed | 97% | clean | →4 | →4 | patch all to one 2.50 |" in text
    assert "| mnist-convnet, b | – | backdoored | – | →1 |" in text
    for block in text.split("\n\n"):
        assert not block.startswith("|") or len({row.count("|") for row in block.splitlines()}) == 1


def test_rate_is_exact() -> None:
    assert rate(5, 10) == "5/10 (19 to 81 %)"
    assert rate(0, 0) == "–"


def test_roc() -> None:
    perfect = curve([2.0, 3.0], [0.0, 1.0])
    assert perfect == [(0.0, 0.0), (0.0, 0.5), (0.0, 1.0), (0.5, 1.0), (1.0, 1.0)]
    assert area(perfect) == 1.0
    assert area(curve([1.0, 0.0], [1.0, 0.0])) == 0.5


def test_what_noticing_more_in_both_models_would_cost() -> None:
    def measured(lead: float, verdict: str = "clean") -> dict[str, Any]:
        return scan(
            verdict=verdict, measures={"lead_patch_in_both_models": lead, "lead_patch_all_to_one": 9.0}
        )

    drawn = in_both(
        [measured(0.9), measured(0.1, "backdoored"), measured(0.5)], [measured(0.6), measured(0.1)]
    )
    line, point = drawn.axes[0].lines
    assert line.get_xydata().tolist()[1:4] == [
        pytest.approx(each) for each in ([0, 1 / 3], [0, 2 / 3], [0.5, 2 / 3])
    ]
    assert point.get_xydata().tolist() == [pytest.approx([0, 2 / 3])]


def test_calibration_takes_the_largest_lead_of_each_honest_federation() -> None:
    scans = [
        honest("a", federation="x/1", measures={"lead_a": 0.1}),
        honest("b", federation="x/1", measures={"lead_a": 0.4, "lead_b": 0.2}),
        honest("c", federation="x/2+x/1", measures={"lead_a": 0.2}),
        scan(),
    ]
    found = calibration(scans)
    assert found["leads"] == [0.25, 0.5]
    assert (found["federations"], found["pairs"]) == (2, 3)


def test_shares_are_of_the_families_that_are_searched() -> None:
    patches = [
        scan(family=family) for family in ("patch-1", "patch-3", "patch-5", "patch-8", "patch-12", "atoms")
    ]
    scans = [*patches, scan(family="two", want=[[None, 1], [None, 2]]), scan(family="blend"), honest("a")]
    assert shares(scans, []) == {"patch, all-to-one": [6, 7]}  # no sinusoid, so nothing on additions
    scans.append(scan(family="sinusoid"))
    assert shares(scans, [])["addition, all-to-one"] == [2, 2]
    both = [scan(verdict=verdict) for verdict in ("clean", "inconclusive", "backdoored")]
    assert shares([], both) == {"in both models": [2, 3]}


def test_the_asr_elsewhere_stands_beside_the_iou(tmp_path: Path) -> None:
    lines = [
        {"cell": "mnist-convnet", "name": name, "family": family, "own": 0.97, "elsewhere": moved}
        | {"commit": "0" * 12}
        for name, family, moved in (
            ("test-patch-3-0", "patch-3", 0.2),
            ("not-found", "patch-3", 0.4),
            ("pair", "one-to-one", 0.5),
        )
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "places.jsonl").write_text(text, encoding="utf-8")
    pair = scan(name="pair", family="one-to-one", want=[[2, 4]], found=[[2, 4, 0.9]])
    text = tables(folder(tmp_path, [scan(), pair]))
    assert "| mnist-convnet | 2 | 97% | 30% | 0.60 (n 1) |" in text
    assert "| mnist-convnet | 1 | 97% | 50% | 1 of 1 |" in text


def test_methods_without_a_reference_stand_beside_the_default_on_the_models_that_all_have(
    tmp_path: Path,
) -> None:
    alone = [
        scan(verdict="clean"),
        honest("a", verdict="backdoored"),
        honest("b"),
    ]
    lines = "".join(json.dumps(each) + "\n" for each in alone)
    (tmp_path / "test-mm-bd-standard.jsonl").write_text(lines, encoding="utf-8")
    text = tables(folder(tmp_path, [scan(), honest("a"), scan(name="test-patch-3-1")]))
    text = text[text.index("### Without a reference") :]
    assert "| differential, with a reference | 1/1 (3 to 100 %) | 0/1 (0 to 98 %) |" in text
    assert "| mm-bd | 0/1 (0 to 98 %) | 1/1 (3 to 100 %) | 0/1 (0 to 98 %) | 1/1 (3 to 100 %) |" in text
    assert "2 models." in text
