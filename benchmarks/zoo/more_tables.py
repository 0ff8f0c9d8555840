"""The tables that put other methods, and the detector without its parts, beside the default."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.results import markdown
from benchmarks.zoo.scans import (
    DEFAULT,
    EFFORT,
    Scan,
    count,
    is_backdoored,
    is_named,
    load,
    path_of,
    rate,
)

STANDARD = ("differential, standard", DEFAULT, EFFORT)
PEERS = (
    (
        ("differential, quick", DEFAULT, "quick"),
        STANDARD,
        ("differential, exhaustive", DEFAULT, "exhaustive"),
    ),
    (STANDARD, ("the paper's", "contrastive-paper", EFFORT)),
)
"""Tables, each with the rows of its methods: name, method, effort."""
LONE = ("mm-bd", "neural-cleanse", "abs", "neuron-inspect", "tabor", "deep-inspect")
"""Methods that judge the suspect alone."""
ABLATIONS = {
    "without_aim": "without the aim: candidates get their target from where they have pushed images",
    "without_swap": "without the swapped control",
    "without_shortlist": "without the shortlist: every aim is refined",
    "without_contrast": "with a cross-entropy in the place of Eq. 1's contrastive loss",
    "with_ssim": "with the SSIM term added",
}
HEAD = (
    *("found, target named", '"clean" of backdoored', "inconclusive of backdoored"),
    *("false alarms", "inconclusive of honest", "passes", "time"),
)


def peers(split: str, results: Path) -> list[str]:
    """Other efforts and methods on the same models."""
    tables = []
    for peers in PEERS:
        named = {
            name: load(path_of(split, method, effort, results=results), seed=0)
            for name, method, effort in peers
        }
        have = {name: scans for name, scans in named.items() if scans}
        if len(have) > 1:
            tables.append(compared(have))
    if not tables:
        return []
    told = (
        "Each table is of the models that all of its methods have scanned; passes and times are medians, and times are "
        "of a machine under changing load. The paper's takes three images a class, as in the paper, and the paper's "
        "settings for MNIST, CIFAR-10 and GTSRB; on Fashion-MNIST those for MNIST. It names one target and no source, "
        "so no pair."
    )
    return ["### Methods and efforts", *tables, told]


def without_a_reference(split: str, results: Path) -> list[str]:
    """Methods that need no reference, beside the default, on the same models."""
    have = {
        name: scans for name in LONE if (scans := load(path_of(split, name, EFFORT, results=results), seed=0))
    }
    if not have:
        return []
    default = load(path_of(split, DEFAULT, EFFORT, results=results), seed=0)
    told = (
        "Methods that judge the suspect alone, with as many images as the default, on the models that all of these "
        "have scanned. Any of the classes that a method flags counts as named; none names a source."
    )
    return ["### Without a reference", compared({"differential, with a reference": default} | have), told]


def ablations(split: str, results: Path) -> list[str]:
    """The default without a part, or with another loss."""
    beside = load(path_of(split, "ablations:default", EFFORT, results=results), seed=0)
    have = {"default": beside or load(path_of(split, DEFAULT, EFFORT, results=results), seed=0)}
    for name, words in ABLATIONS.items():
        if scans := load(path_of(split, f"ablations:{name}", EFFORT, results=results), seed=0):
            have[words] = scans
    return ["### Ablations", compared(have)] if len(have) > 1 else []


def compared(have: dict[str, list[Scan]]) -> str:
    """A row a method, on the models that all have scanned."""
    shared = set.intersection(*({(scan["cell"], scan["name"]) for scan in scans} for scans in have.values()))
    rows: list[tuple[str, ...]] = [("Method", *HEAD)]
    for name, scans in have.items():
        own = [scan for scan in scans if (scan["cell"], scan["name"]) in shared]
        rows.append((name, *summary(own)))
    return f"{markdown(rows, right='      rr')}\n\n{len(shared)} models."


def summary(scans: Sequence[Scan]) -> tuple[str, ...]:
    """The columns of ``HEAD``."""
    backdoored, clean = ([scan for scan in scans if is_backdoored(scan) is kind] for kind in (True, False))
    return (
        rate(sum(map(is_named, backdoored)), len(backdoored)),
        rate(count(backdoored, "clean"), len(backdoored)),
        rate(count(backdoored, "inconclusive"), len(backdoored)),
        rate(count(clean, "backdoored"), len(clean)),
        rate(count(clean, "inconclusive"), len(clean)),
        f"{passes:,.0f}" if (passes := median(scan["passes"] for scan in scans or [{"passes": 0}])) else "–",
        f"{median(scan['seconds'] for scan in scans):.1f} s" if scans else "–",
    )


def places(scans: Sequence[Scan], results: Path) -> list[str]:
    """How well planted patches work at other places, and those of one source on other classes, beside what is found."""
    path = results / "places.jsonl"
    if not path.exists():
        return []
    lines = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]
    found = {(scan["cell"], scan["name"]): scan for scan in scans}
    patches: list[tuple[str, ...]] = [("Cell", "models", "ASR at its place", "at others", "IoU")]
    sources: list[tuple[str, ...]] = [
        ("Cell", "models", "ASR on its source", "on other classes", "pair named")
    ]
    for of_pairs, rows in ((False, patches), (True, sources)):
        for cell in sorted({line["cell"] for line in lines}):
            own = [
                line
                for line in lines
                if line["cell"] == cell and (line["family"] == "one-to-one") is of_pairs
            ]
            if own:
                of_own = [scan for line in own if (scan := found.get((cell, line["name"])))]
                rates = [f"{median(line[key] for line in own):.0%}" for key in ("own", "elsewhere")]
                rows.append((cell, str(len(own)), *rates, (_pairs if of_pairs else _overlap)(of_own)))
    told = (
        "The first table is of patches for all classes, on 300 images, its second ASR the mean of eight places drawn "
        "at random; the second of one-to-one backdoors, its second ASR the mean of the other classes. Medians. Commits "
        + ", ".join(f"`{each}`" for each in sorted({line["commit"] for line in lines}))
        + "."
    )
    tables = [markdown(rows, right=" rrrr") for rows in (patches, sources) if len(rows) > 1]
    return ["### Where planted patches work", *tables, told]


def _overlap(scans: Sequence[Scan]) -> str:
    values = [each for scan in scans if scan["iou"] and (each := scan["iou"][0]) is not None]
    return f"{median(values):.2f} (n {len(values)})" if values else "–"


def _pairs(scans: Sequence[Scan]) -> str:
    return f"{sum(map(is_named, scans))} of {len(scans)}"


def yardstick(results: Path) -> list[str]:
    """TrojanZoo's Neural Cleanse on a sample, and the default on the same models and images."""
    path = results / "yardstick.json"
    if not path.exists():
        return []
    file: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    rows: list[tuple[str, ...]] = [("Method", "found, target named", "false alarms", "time")]
    sample: list[dict[str, Any]] = file.get("sample", [])
    for name in ("fedmend", "neural-cleanse"):
        backdoored = [each for each in sample if each["want"]]
        clean = [each for each in sample if not each["want"]]
        found = sum(any(target in each[name]["targets"] for _, target in each["want"]) for each in backdoored)
        rows.append(
            (
                name,
                rate(found, len(backdoored)),
                rate(sum(each[name]["verdict"] == "backdoored" for each in clean), len(clean)),
                f"{median(each[name]['seconds'] for each in sample):.1f} s" if sample else "–",
            )
        )
    cells = len({each["cell"] for each in sample})
    told = (
        f"{len(sample)} of 20 models, of {cells} of five cells, the same images for both, one thread "
        f"({file['machine']}, torch {file['torch']}). Neural Cleanse needs no reference, and any of the classes that "
        "it flags counts as named."
    )
    return ["### Neural Cleanse", markdown(rows, right="   r"), told]
