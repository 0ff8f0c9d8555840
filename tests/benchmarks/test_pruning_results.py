import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks.pruning.figures import draw
from benchmarks.pruning.paper import FASHION, MNIST, PRUNED, SMALL, Pair
from benchmarks.pruning.tables import tables
from benchmarks.pruning.targets import RECIPES, targets


def model(
    pair: Pair, after: tuple[float, float] = (0.97, 0.01), **changes: tuple[float, float]
) -> dict[str, Any]:
    """A result of one pair: 98 % and 100 % before, and what each recipe reached."""
    result: dict[str, Any] = {"victim": pair[0], "target": pair[1], "shape": "1px"}
    for recipe in (*RECIPES, "paper, majority vote"):
        last = changes.get(recipe, after)
        stages = [("suspect", (0.98, 1.0)), ("pruned", (0.975, 0.9)), ("adjusted again", last)]
        result[recipe] = {
            "pruned": 30,
            "commit": "c" * 40,
            "stages": [{"name": name, "accuracy": each[0], "asr": each[1]} for name, each in stages],
        }
    return result


def written(folder: Path, part: str, models: list[dict[str, Any]]) -> Path:
    file = {
        "models": {f"fashion-mnist-2-3/{index}": each for index, each in enumerate(models)},
        "torch": "2",
        "python": "3",
        "machine": "m",
    }
    (folder / f"{part}.json").write_text(json.dumps(file), encoding="utf-8")
    return folder


def statuses(folder: Path) -> dict[str, str]:
    return {line.name: line.status for line in targets(folder) if line.status != "no target"}


def test_all_met(tmp_path: Path) -> None:
    written(tmp_path, "mnist", [model(pair) for pair in MNIST])
    assert statuses(tmp_path) == {
        "fashion-mnist, mean ASR and accuracy lost": "not run",
        "mnist, planted ASR": "met",
        "mnist, accuracy under attack": "met",
        "mnist, fedmend: mean ASR and accuracy lost": "met",
        "mnist, fedmend: largest ASR": "met",
        "mnist, 30 % lying clients against none": "met",
    }


def test_fewer_pairs_than_the_paper_lists_meet_nothing(tmp_path: Path) -> None:
    written(tmp_path, "mnist", [model(pair) for pair in list(MNIST)[1:]])
    assert set(statuses(tmp_path).values()) == {"not run", "incomplete"}


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({"fedmend": (0.97, 0.5)}, {"mnist, fedmend: largest ASR", "mnist, 30 % lying clients against none"}),
        (
            {"fedmend": (0.5, 0.01)},
            {"mnist, fedmend: mean ASR and accuracy lost", "mnist, 30 % lying clients against none"},
        ),
        ({"fedmend, liars": (0.97, 0.5)}, {"mnist, 30 % lying clients against none"}),
    ],
)
def test_a_single_pair_can_miss(
    tmp_path: Path, changes: dict[str, tuple[float, float]], missed: set[str]
) -> None:
    pairs = list(MNIST)
    written(tmp_path, "mnist", [model(pairs[0], **changes), *(model(pair) for pair in pairs[1:])])
    assert {name for name, status in statuses(tmp_path).items() if status == "missed"} == missed


def test_asr_and_accuracy_must_be_met_at_once(tmp_path: Path) -> None:
    written(tmp_path, "fashion", [model(pair, (0.96, 0.0)) for pair in FASHION])
    assert statuses(tmp_path)["fashion-mnist, fedmend: mean ASR and accuracy lost"] == "missed"


def test_other_patterns_are_no_pairs_of_these_tables(tmp_path: Path) -> None:
    written(
        tmp_path, "mnist", [*(model(pair) for pair in MNIST), model((9, 1), (0.1, 1.0)) | {"shape": "9px"}]
    )
    assert "missed" not in statuses(tmp_path).values()


def test_tables_have_the_papers_figures_beside_ours(tmp_path: Path) -> None:
    written(tmp_path, "mnist", [model((3, 9))])
    shown = tables(tmp_path)
    assert "**Incomplete: 1 of 18 pairs have a result.**" in shown
    assert (
        "| 3 to 9 | 98.0 / 100.0 (98.5 / 99.5) | 97.0 / 1.0 (95.0 / 34.9) | 97.0 / 1.0 (96.0 / 26.3) |"
        in shown
    )
    assert "30: 97.5 / 90.0 (30: 90.6 / 100)" in shown
    assert "`cccccccccccc` (7 results)" in shown


def test_the_papers_means_are_those_of_its_text() -> None:
    """Sections 5.5.1, 5.5.3 and 5.5.4."""

    def means(kind: str, rows: dict[Pair, Any]) -> list[float]:
        return [
            round(sum(getattr(row, kind)[index] for row in rows.values()) / len(rows), 1) for index in (0, 1)
        ]

    assert means("adjusted", FASHION) == [82.5, 1.9]
    assert means("fine_tuned", FASHION) == [86.4, 6.4]
    assert means("adjusted", MNIST) == [94.4, 8.4]
    assert means("fine_tuned", MNIST) == [96.9, 4.7]
    below = [sum(row[vote][2] < 10 for row in PRUNED.values()) for vote in (0, 1)]
    assert below == [5, 7]
    assert round(sum(asr for _, _, asr in SMALL.values()) / len(SMALL), 1) == 3.2


def test_seeds_are_told_apart_by_the_models_names(tmp_path: Path) -> None:
    for part, seeds in (("fashion", (2,)), ("seeds", (3, 4))):
        models = {f"fashion-mnist-{seed}-3/{a}-{b}": model((a, b)) for seed in seeds for a, b in FASHION}
        file = {"models": models, "torch": "2", "python": "3", "machine": "m"}
        (tmp_path / f"{part}.json").write_text(json.dumps(file), encoding="utf-8")
    name = "fashion-mnist, seeds 2, 3, 4, fedmend: mean ASR and accuracy lost"
    assert statuses(tmp_path)[name] == "met"
    assert (
        "| 9 to 8 | 98.0 / 100.0 → 97.0 / 1.0 | 98.0 / 100.0 → 97.0 / 1.0 | 98.0 / 100.0 → 97.0 / 1.0 |"
        in (tables(tmp_path))
    )
    models["fashion-mnist-4-3/9-8"] = model((9, 8), (0.9, 0.9))
    file["models"] = models
    (tmp_path / "seeds.json").write_text(json.dumps(file), encoding="utf-8")
    assert statuses(tmp_path)[name] == "missed"
    del models["fashion-mnist-4-3/9-8"]
    (tmp_path / "seeds.json").write_text(json.dumps(file), encoding="utf-8")
    assert statuses(tmp_path)[name] == "incomplete"


def test_triggers_of_all_sizes_are_in_one_table(tmp_path: Path) -> None:
    written(tmp_path, "mnist", [model((9, 1))])
    for each in (larger := [model((9, 1)) | {"shape": shape} for shape in ("3px", "9px")]):
        each["paper, ranking vote"]["stages"][-1]["zeroed"] = 77
    assert "trigger's size" not in tables(tmp_path)
    first = model((9, 1))
    first["paper, ranking vote"]["stages"][-1]["zeroed"] = 55
    written(tmp_path, "mnist", [first])
    written(tmp_path, "patterns", larger)
    assert "| 1 pixel | 98.0 / 100.0 (98.5 / 99.9) | 30: 97.5 / 90.0 (22: 97.3 / 98.7) | 55:" in tables(
        tmp_path
    )
    assert "| 55: 97.0 / 1.0 (131: 97.2 / 0.4) | 97.0 / 1.0 |" in tables(tmp_path)
    assert "| 9 pixels |" in tables(tmp_path)
    assert "| 5 pixels |" not in tables(tmp_path)


def test_honest_models_are_told_by_dataset(tmp_path: Path) -> None:
    rates = {"mnist/trunk": 0.3, "fashion-mnist/trunk": 0.2, "mnist/clean-0": 0.1}
    models = {name: {"source": 1, "target": 7, "rate": rate} for name, rate in rates.items()}
    (tmp_path / "honest.json").write_text(json.dumps({"models": models}), encoding="utf-8")
    assert "| mnist | 2 | 0.10, 0.30 | 0.30, 1 to 7 |" in tables(tmp_path)


def curve(*accuracies: float) -> dict[str, Any]:
    points = list(range(len(accuracies)))
    return {
        "points": points,
        "accuracy": accuracies,
        "asr": [1.0] * len(points),
        "stop": {"step": 1, "total": 2},
    }


def test_curves_become_tables_and_pictures(tmp_path: Path) -> None:
    measured = {
        f"{name}, {liars} liars": curve(0.98, 0.97, 0.965 if liars else 0.96)
        for name in ("ranking, mean", "majority")
        for liars in (0, 3)
    }
    row = {"victim": 9, "target": 0, "zeroed": 12, "accuracy": 0.97, "asr": 0.5}
    rounds = {"round": [0, 1], "accuracy": [0.1, 0.9], "asr": [0.0, 1.0]}
    file = {
        "along": {"mnist-2-3/9-1": {"measured": measured}},
        "delta": {"mnist-2-3/9-1": {"measured": [row | {"delta": 0.0}, row | {"delta": 3.0}]}},
        "small": {"mnist-small-2-3/9-0": {"measured": row | {"accuracy before": 0.98, "asr before": 1.0}}},
        "labels": {"mnist-2-5/9-1-from-start": {"measured": rounds}},
        "penalties": {"mnist-2-3/9-1-from-start-l2-0.01": {"measured": rounds}},
    }
    (tmp_path / "curves.json").write_text(json.dumps(file), encoding="utf-8")
    shown = tables(tmp_path)
    assert "| 9 to 0 | 98.0 / 100.0 | 12 (30) | 97.0 / 50.0 (98.2 / 0.4) |" in shown
    assert "| mnist, majority | 2: 96.0 / 100.0 | 2: 96.5 / 100.0 |" in shown
    for key, title in (
        ("along", "mnist"),
        ("delta", "mnist"),
        ("labels", "5 labels a client"),
        ("penalties", "lambda 0.01"),
    ):
        picture = draw(key, file[key], tmp_path).read_text(encoding="utf-8")
        assert f"<!-- {title} -->" in picture
        assert draw(key, file[key], tmp_path).read_text(encoding="utf-8") == picture
