"""The targets of the pruning benchmark, from results/<part>.json alone."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.pruning.paper import FASHION, MNIST, Pair, Row
from benchmarks.results import Target, judge

RESULTS = Path(__file__).parent / "results"
PARTS: dict[str, dict[Pair, Row]] = {"fashion": FASHION, "mnist": MNIST}
NAMES = {"fashion": "fashion-mnist", "mnist": "mnist"}
# Mean ASR, mean loss of accuracy in points, and the largest ASR of a pair.
LIMITS = {"fashion": (1.9, 1.7, None), "mnist": (4.7, 1.4, 10.0)}
NO_IMAGES = "fedmend, no images"
RECIPES = (
    *("fedmend", "fedmend, liars", NO_IMAGES, "paper, fine-tuned", "paper, ranking vote"),
    "paper, mu and sigma over all weights",
)
MIN_PLANTED_ASR = 99.0
SEEDS = 3

Model = dict[str, Any]


def load(part: str, results: Path = RESULTS) -> dict[str, Any]:
    """A part's results file; without models if it isn't there."""
    path = results / f"{part}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"models": {}}


def by_pair(part: str, results: Path = RESULTS) -> dict[Pair, Model]:
    """The models of the pairs that the paper lists, single-pixel triggers only, with fedmend's result at least."""
    models = load(part, results)["models"].values()
    found = {
        (model["victim"], model["target"]): model
        for model in models
        if model["shape"] == "1px" and "fedmend" in model
    }
    return {pair: found[pair] for pair in PARTS[part] if pair in found}


def by_seed(results: Path = RESULTS) -> dict[int, dict[Pair, Model]]:
    """Fashion-MNIST's pairs by the federation's seed (Table 2), those that have fedmend's result."""
    found: dict[int, dict[Pair, Model]] = {}
    for part in ("fashion", "seeds"):
        for name, model in load(part, results)["models"].items():
            if "fedmend" in model:
                seed = int(name.split("/")[0].split("-")[2])
                found.setdefault(seed, {})[model["victim"], model["target"]] = model
    return dict(sorted(found.items()))


def stage(model: Model, recipe: str, index: int) -> tuple[float, float]:
    """Accuracy and ASR in percent after a stage of a recipe; 0 is the suspect, -1 the last."""
    found = model[recipe]["stages"][index]
    return 100 * found["accuracy"], 100 * found["asr"]


def loss(model: Model, recipe: str) -> float:
    """How many points of accuracy a recipe costs."""
    return stage(model, recipe, 0)[0] - stage(model, recipe, -1)[0]


def shown(recipe: str) -> str:
    """A recipe's name in the tables; the results files have an older word for lying clients."""
    return recipe.replace("liars", "30 % lying clients")


def targets(results: Path = RESULTS) -> list[Target]:
    """The lines of all parts."""
    lines = [line for part in PARTS for line in of_part(part, by_pair(part, results))]
    return [*lines, *of_seeds(by_seed(results))]


def of_seeds(seeds: dict[int, dict[Pair, Model]]) -> list[Target]:
    """Fashion-MNIST over all seeds: means, and the lowest and highest mean of a seed."""
    models = [model for pairs in seeds.values() for model in pairs.values()]
    if len(seeds) < 2:
        return []
    planned, (asr_limit, loss_limit, _) = SEEDS * len(FASHION), LIMITS["fashion"]
    asr = [mean(stage(model, "fedmend", -1)[1] for model in pairs.values()) for pairs in seeds.values()]
    lost = [mean(loss(model, "fedmend") for model in pairs.values()) for pairs in seeds.values()]
    asrs = [stage(model, "fedmend", -1)[1] for model in models]
    losses = [loss(model, "fedmend") for model in models]
    planted = min(stage(model, "fedmend", 0)[1] for model in models)
    return [
        Target(
            "pruning",
            f"fashion-mnist, seeds {', '.join(map(str, seeds))}, planted ASR",
            "each at least 99 %",
            f"min {planted:.1f} %",
            len(models),
            planned,
            judge(planted >= MIN_PLANTED_ASR, len(models), planned),
        ),
        Target(
            "pruning",
            f"fashion-mnist, seeds {', '.join(map(str, seeds))}, fedmend: mean ASR and accuracy lost",
            f"at most {asr_limit} % and {loss_limit} points",
            f"{mean(asrs):.1f} % (a seed's mean {min(asr):.1f} to {max(asr):.1f}, max {max(asrs):.1f}), "
            f"{mean(losses):.1f} points ({min(lost):.1f} to {max(lost):.1f})",
            len(models),
            planned,
            judge(mean(asrs) <= asr_limit and mean(losses) <= loss_limit, len(models), planned),
        ),
    ]


def of_part(part: str, models: dict[Pair, Model]) -> list[Target]:
    """The lines of one part's models."""
    rows, planned = PARTS[part], len(PARTS[part])
    asr_limit, loss_limit, worst = LIMITS[part]

    def line(name: str, target: str, measured: str, holds: bool | None, n: int = len(models)) -> Target:
        status = "no target" if holds is None else judge(holds, n, planned)
        told = measured if n else "not measured yet"
        return Target("pruning", f"{NAMES[part]}, {name}", target, told, n, planned, status)

    if not models:
        return [line("mean ASR and accuracy lost", "at once", "", False)]
    planted = [stage(model, "fedmend", 0) for model in models.values()]
    away = [stage(model, "fedmend", 0)[0] - rows[pair].accuracy for pair, model in models.items()]
    lines = [
        line(
            "planted ASR",
            "each at least 99 %",
            f"min {min(asr for _, asr in planted):.1f} %, mean {mean(asr for _, asr in planted):.1f} %",
            all(asr >= MIN_PLANTED_ASR for _, asr in planted),
        ),
        line(
            "accuracy under attack",
            "each within 1 point of the paper's",
            f"from {min(away):+.1f} to {max(away):+.1f}, mean {mean(away):+.1f} points",
            all(abs(each) <= 1 for each in away),
        ),
    ]
    for recipe in RECIPES:
        having = [model for model in models.values() if recipe in model]
        if not having:
            continue
        asrs = [stage(model, recipe, -1)[1] for model in having]
        losses = [loss(model, recipe) for model in having]
        ours = recipe == "fedmend"
        holds = mean(asrs) <= asr_limit and mean(losses) <= loss_limit
        lines.append(
            line(
                f"{shown(recipe)}: mean ASR and accuracy lost",
                f"at most {asr_limit} % and {loss_limit} points" if ours else "–",
                f"{mean(asrs):.1f} % (max {max(asrs):.1f}), {mean(losses):.1f} points",
                holds if ours else None,
                len(having),
            )
        )
        if ours and worst is not None:
            lines.append(
                line("fedmend: largest ASR", f"at most {worst:g} %", f"{max(asrs):.1f} %", max(asrs) <= worst)
            )
    lied = [model for model in models.values() if "fedmend, liars" in model]
    apart = [
        mean(stage(model, "fedmend, liars", -1)[index] - stage(model, "fedmend", -1)[index] for model in lied)
        for index in (0, 1)
        if lied
    ]
    lines.append(
        line(
            "30 % lying clients against none",
            "mean accuracy and ASR within 1 point",
            " and ".join(f"{each:+.1f}" for each in apart) + " points",
            bool(lied) and all(abs(each) <= 1 for each in apart),
            len(lied),
        )
    )
    return lines
