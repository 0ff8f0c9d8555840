"""The targets of the detection benchmark, a set a dataset, from results/<dataset>.json alone."""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

from benchmarks.results import Target, judge, proportion

RESULTS = Path(__file__).parent / "results"
DATASETS = ("mnist", "fashion-mnist")
ATTACKED = tuple(f"{kind}-{shape}" for kind in ("sba", "dba") for shape in ("one", "plus", "h"))
CLEAN = tuple(f"clean-{index}" for index in range(6))

MIN_PLANTED_ASR = 0.95
MAX_REPAIRED_ASR = 0.05
MAX_ACCURACY_DROP = 0.01
MAX_SCAN_SECONDS = 10.0
MAX_SCAN_MIB = 1024.0

Model = dict[str, Any]


def load(dataset: str, results: Path = RESULTS) -> dict[str, Any]:
    """A dataset's results file; without models if it isn't there."""
    path = results / f"{dataset}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"models": {}}


def pick(models: dict[str, Model], names: tuple[str, ...]) -> list[Model]:
    """Those of the planned models that have a result."""
    return [models[name] for name in names if name in models]


def is_right(model: Model) -> bool:
    """Whether the verdict is the true one. Inconclusive never is."""
    return bool(model["verdict"] == ("backdoored" if "asr" in model else "clean"))


def is_repaired(model: Model) -> bool:
    """Whether the repair gave a model back."""
    return model["repaired_asr"] is not None


def asr_now(model: Model) -> float:
    """The attack's success after the repair; a model that wasn't repaired still has its backdoor."""
    return model["repaired_asr"] if is_repaired(model) else model["asr"]


def accuracy_drop(model: Model) -> float:
    """How much lower the clean accuracy of a repaired model is, in points."""
    return 100 * (model["accuracy"] - model["repaired_accuracy"])


def spread(values: list[float], unit: str) -> str:
    """Mean and standard deviation in words."""
    deviation = f" ± {stdev(values):.2f}" if len(values) > 1 else ""
    return f"{mean(values):.2f}{deviation} {unit}"


def targets(results: Path = RESULTS) -> list[Target]:
    """The lines of both datasets."""
    return [line for dataset in DATASETS for line in of_dataset(dataset, load(dataset, results)["models"])]


def of_dataset(dataset: str, models: dict[str, Model]) -> list[Target]:
    """The lines of one dataset's models."""
    attacked, both = pick(models, ATTACKED), pick(models, ATTACKED + CLEAN)

    def line(name: str, target: str, measured: str, over: list[Model], holds: bool | None) -> Target:
        planned = len(ATTACKED) if over is attacked else len(ATTACKED + CLEAN)
        status = "no target" if holds is None else judge(holds, len(over), planned)
        return Target(
            "detection",
            f"{dataset}, {name}",
            target,
            measured if over else "not measured yet",
            len(over),
            planned,
            status,
        )

    right = sum(map(is_right, both))
    return [
        line(
            "planted ASR",
            "each at least 95 %",
            planted(attacked),
            attacked,
            all(model["asr"] >= MIN_PLANTED_ASR for model in attacked),
        ),
        line("verdicts right", "all 12 models", proportion(right, len(both)), both, right == len(both)),
        line(
            "target class named",
            "–",
            proportion(sum(model["found_target"] == model["target"] for model in attacked), len(attacked)),
            attacked,
            None,
        ),
        line(
            "ASR after repair",
            "each at most 5 %",
            repaired(attacked),
            attacked,
            all(is_repaired(model) and model["repaired_asr"] <= MAX_REPAIRED_ASR for model in attacked),
        ),
        line("ASR in the clean reference", "–", natural(attacked), attacked, None),
        line(
            "accuracy lost by repair",
            "each at most 1 point",
            lost(attacked),
            attacked,
            all(is_repaired(model) and accuracy_drop(model) <= 100 * MAX_ACCURACY_DROP for model in attacked),
        ),
        line(
            "time per scan",
            "each at most 10 s",
            timed(both),
            both,
            all(model["scan_seconds"] <= MAX_SCAN_SECONDS for model in both),
        ),
        line(
            "memory per scan beyond the models",
            "each at most 1 GiB",
            needed(both),
            both,
            all((model["scan_memory_mib"] or math.inf) <= MAX_SCAN_MIB for model in both),
        ),
    ]


def planted(attacked: list[Model]) -> str:
    values = [100 * model["asr"] for model in attacked]
    return f"min {min(values):.2f} %, mean {mean(values):.2f} %" if values else ""


def repaired(attacked: list[Model]) -> str:
    values = [100 * asr_now(model) for model in attacked]
    return f"max {max(values):.2f} %, mean {spread(values, '%')}{failures(attacked)}" if values else ""


def natural(attacked: list[Model]) -> str:
    """Fraction of stamped images that the clean reference assigns to the target class; no repair can go below it."""
    values = [100 * model["reference_asr"] for model in attacked]
    return f"max {max(values):.2f} %, mean {spread(values, '%')}" if values else ""


def lost(attacked: list[Model]) -> str:
    values = [accuracy_drop(model) for model in attacked if is_repaired(model)]
    text = f"max {max(values):.2f}, mean {spread(values, 'points')}" if values else "none repaired"
    return text + (failures(attacked) if values else "")


def failures(attacked: list[Model]) -> str:
    """How many repairs failed; empty if none did."""
    count = sum(not is_repaired(model) for model in attacked)
    return f" ({count} of {len(attacked)} not repaired)" if count else ""


def timed(models: list[Model]) -> str:
    values = [model["scan_seconds"] for model in models]
    return f"median {median(values):.1f} s, max {max(values):.1f} s" if values else ""


def needed(models: list[Model]) -> str:
    values = [model["scan_memory_mib"] for model in models if model["scan_memory_mib"] is not None]
    return f"max {max(values):.0f} MiB" if values else "not known on this system"
