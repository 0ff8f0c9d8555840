"""The generated section of this benchmark's README: a summary beside the paper's figures, and a row a model."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from statistics import mean, median
from typing import Any

from benchmarks.commits import short
from benchmarks.detection.targets import (
    ATTACKED,
    CLEAN,
    DATASETS,
    RESULTS,
    Model,
    asr_now,
    failures,
    is_repaired,
    is_right,
    load,
    pick,
    spread,
    targets,
)
from benchmarks.results import markdown, table

NAMES = {"mnist": "MNIST", "fashion-mnist": "Fashion-MNIST"}
NONE = "–"
SCANS = (
    *("Scan", "planted ASR", "verdict", "right?", "target", "success", "lead / limit", "p-value"),
    *("mask, pixels", "IoU", "time"),
)
REPAIRS = (
    "Repair",
    "outcome",
    "ASR",
    "after",
    "in the reference",
    "accuracy",
    "after",
    "variants",
    "passes",
    "time",
)

# The contrastive paper's method on MNIST (its Tables 2 to 4), SBA and DBA.
PAPER = {
    "accuracy": ("98.72 %", "98.60 %"),
    "asr": ("99.66 %", "100.0 %"),
    "detection": ("100 %", "100 %"),
    "repaired accuracy": ("98.40 %", "97.95 %"),
    "repaired asr": ("1.73 %", "7.41 %"),
    "time": ("7.38 s", "7.63 s"),
}


def tables(results: Path = RESULTS) -> str:
    """Everything between the markers."""
    parts = ["### Targets", table(targets(results))]
    for dataset in DATASETS:
        file = load(dataset, results)
        models = file["models"]
        planned = len(ATTACKED + CLEAN)
        done = len(pick(models, ATTACKED + CLEAN))
        parts.append(f"### {NAMES[dataset]}")
        if done < planned:
            parts.append(f"**Incomplete: {done} of {planned} models have a result.**")
        if done:
            parts += [origin(file), summary(dataset, models), scans(models), repairs(models)]
    return "\n\n".join([*parts, *over_seeds(results)])


def over_seeds(results: Path) -> list[str]:
    """The default scan over other seeds and images."""
    path = results / "seeds.json"
    if not path.exists():
        return []
    file = json.loads(path.read_text(encoding="utf-8"))
    head = ("Scan", "models", "verdicts right", "target named", "success", "mask, pixels", "time")
    lines: list[tuple[str, ...]] = [head]
    seeds = set[int]()
    for dataset in (name for name in DATASETS if name in file):
        for method, models in file[dataset].items():
            truth = {name: file["targets"][f"{dataset}/{name}"] for name in models}
            attacked = [
                (truth[name], each)
                for name, found in models.items()
                for each in found
                if truth[name] is not None
            ]
            honest = [each for name, found in models.items() for each in found if truth[name] is None]
            right = sum(each["verdict"] == "backdoored" for _, each in attacked)
            right += sum(each["verdict"] == "clean" for each in honest)
            named = sum(each["target"] == target for target, each in attacked)
            rates = [100 * each["reasr"] for _, each in attacked if each["reasr"] is not None]
            seeds |= {each["seed"] for found in models.values() for each in found}
            lines.append(
                (
                    f"{NAMES[dataset]}, {method}",
                    str(len(models)),
                    f"{right} of {len(attacked) + len(honest)}",
                    f"{named} of {len(attacked)}",
                    f"{spread(rates, '%')}, min {min(rates):.0f}" if rates else NONE,
                    middle([each["mask_size"] for _, each in attacked if each["mask_size"] is not None]),
                    f"{median(each['seconds'] for _, each in attacked + [(0, each) for each in honest]):.2f} s",
                )
            )
    told = (
        f"{len(seeds)} further seeds, each with other server images, on {file['machine']}, torch "
        f"{file['torch']}; timed beside other work. Success: of the recovered trigger in backdoored models."
    )
    return ["### Other seeds and images", told, markdown(lines, right=" rrrrrr")]


def origin(file: dict[str, Any]) -> str:
    """Where and with what it was measured."""
    return (
        f"Run at commit {commits(file)} with torch {file['torch']} and Python {file['python']} on "
        f"{file['machine']}; scan and repair with seed {file['seed']}."
    )


def commits(file: dict[str, Any]) -> str:
    """The commits at which the models were measured, the most frequent first."""
    counted = Counter(short(model["commit"]) for model in file["models"].values())
    return ", ".join(f"`{commit}` ({count} models)" for commit, count in counted.most_common())


def summary(dataset: str, models: dict[str, Model]) -> str:
    """Ours beside the paper's: means over the three triggers."""
    known = dataset == "mnist"
    head = ("Mean over three triggers", "SBA", "DBA", *(("paper, SBA", "paper, DBA") if known else ()))
    kinds = [pick(models, ATTACKED[:3]), pick(models, ATTACKED[3:])]
    honest = pick(models, CLEAN)
    rows: list[tuple[str, ...]] = [head]

    def row(name: str, key: str, values: list[str]) -> None:
        rows.append((name, *values, *(PAPER[key] if known else ())))

    row("accuracy, attacked model", "accuracy", [average(kind, "accuracy") for kind in kinds])
    row("ASR, attacked model", "asr", [average(kind, "asr") for kind in kinds])
    row(
        "attacked models found", "detection", [f"{sum(map(is_right, kind))} of {len(kind)}" for kind in kinds]
    )
    row(
        "accuracy, repaired model",
        "repaired accuracy",
        [average([model for model in kind if is_repaired(model)], "repaired_accuracy") for kind in kinds],
    )
    row("ASR after repair", "repaired asr", [after(kind) for kind in kinds])
    row("time per scan, median", "time", [seconds(kind) for kind in kinds])
    paper = (
        "The paper's values: Tables 2, 3 and 4; its detection rate covers more models, and its times were measured "
        "on an RTX 3080. "
        if known
        else "The paper does not use Fashion-MNIST. "
    )
    clean = (
        f"Honest models: {sum(map(is_right, honest))} of {len(honest)} called clean, mean accuracy "
        f"{average(honest, 'accuracy')}, median time {seconds(honest)}."
    )
    return f"{markdown(rows, right=' rrrr')}\n\n{paper}{clean}"


def scans(models: dict[str, Model]) -> str:
    """A row a model: what the scan said."""
    rows: list[tuple[str, ...]] = [SCANS]
    for name in ATTACKED + CLEAN:
        if name not in models:
            rows.append((name, "**not run**", *[NONE] * 9))
            continue
        model = models[name]
        attacked = "asr" in model
        rows.append(
            (
                name,
                percent(model.get("asr")),
                model["verdict"],
                "yes" if is_right(model) else "**no**",
                named(model) if attacked else NONE,
                percent(model["reasr"]),
                number(model.get("lead"), 2),
                number(model.get("p_value"), 3),
                number(model["mask_size"], 1),
                number(model.get("mask_iou"), 2),
                f"{model['scan_seconds']:.1f} s",
            )
        )
    return markdown(rows, right=" r   rrrrrr")


def repairs(models: dict[str, Model]) -> str:
    """A row an attacked model: what the repair reached."""
    rows: list[tuple[str, ...]] = [REPAIRS]
    for name in ATTACKED:
        if name not in models:
            rows.append((name, "**not run**", *[NONE] * 8))
            continue
        model = models[name]
        rows.append(
            (
                name,
                "repaired" if is_repaired(model) else f"**{model['outcome']}**",
                percent(model["asr"]),
                percent(model["repaired_asr"]),
                percent(model["reference_asr"]),
                percent(model["accuracy"]),
                percent(model["repaired_accuracy"]),
                str(model["triggers"]),
                str(model["passes"]),
                f"{model['repair_seconds']:.0f} s",
            )
        )
    return markdown(rows, right="  rrrrrrrr")


def named(model: Model) -> str:
    """The first target of an attacked model, whether it is the planted one, and how many more there are."""
    word = "right" if model["found_target"] == model["target"] else "**wrong**"
    more = len(model.get("targets", [])) - 1
    return f"{model['found_target']}, {word}" + (f", {more} more" if more > 0 else "")


def middle(values: list[float]) -> str:
    return f"{median(values):.1f}" if values else NONE


def number(value: float | None, places: int) -> str:
    return NONE if value is None else f"{value:.{places}f}"


def percent(value: float | None) -> str:
    return NONE if value is None else f"{100 * value:.2f} %"


def average(models: list[Model], key: str) -> str:
    return percent(mean(model[key] for model in models)) if models else NONE


def after(models: list[Model]) -> str:
    values = [100 * asr_now(model) for model in models]
    return f"{spread(values, '%')}{failures(models)}" if values else NONE


def seconds(models: list[Model]) -> str:
    return f"{median(model['scan_seconds'] for model in models):.1f} s" if models else NONE
