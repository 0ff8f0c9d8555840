"""Time to a verdict, fedmend's and TrojanZoo's, in turns on the same models and images; results/compare.json.

    sh benchmarks/speed/setup_yardstick.sh
    python benchmarks/speed/train.py
    python benchmarks/speed/compare.py --turns 3 --threads 1

Each turn is one run of each, in processes of their own; run it alone. Neural Cleanse runs to its own end, but on GTSRB,
where only so many classes do and the rest is extrapolated. TABOR and DeepInspect, which have no end of their own before
500 epochs, run for a few epochs of a few classes once, and are always extrapolated. What has been measured is kept.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from worlds import BENCHMARKS, MODELS, WORLDS, World

from fedmend.files import write_text

HERE = Path(__file__).resolve().parent
PATH = HERE / "results" / "compare.json"
YARDSTICK = BENCHMARKS / "runs" / "yardstick-env" / "bin" / "python"
CLEANSE_CLASSES = {"gtsrb": 2}
SHORT = {"tabor": ["--epochs", "5", "--classes", "2"], "deep-inspect": ["--epochs", "5", "--classes", "2"]}


def ours(world: World, name: str, threads: int, seed: int) -> dict[str, Any]:
    """A scan, the turn's number its seed."""
    options = ["--dataset", world.name, "--model", name, "--threads", str(threads), "--seed", str(seed)]
    return line_of([sys.executable, str(HERE / "ours.py"), *options])


def theirs(world: World, name: str, method: str, threads: int) -> dict[str, Any]:
    """A yardstick's run; ``seconds`` is what the whole search takes, measured or extrapolated."""
    classes = CLEANSE_CLASSES.get(world.source) if method == "neural-cleanse" else None
    shorter = ["--classes", str(classes)] if classes else SHORT.get(method, [])
    line = line_of(
        [
            *(str(YARDSTICK), str(HERE / "yardstick.py"), "--method", method, "--threads", str(threads)),
            *("--checkpoint", str(world.checkpoint(name)), "--architecture", world.architecture),
            *("--images", str(world.images), *shorter),
        ]
    )
    if line["complete"]:
        seconds = line["scan_seconds"]
    elif classes:  # each class that was run came to its own end
        seconds = line["optimization_seconds"] / classes * line["outputs"]
    else:
        seconds = line["extrapolated_seconds"]
    return line | {"seconds": seconds}


def line_of(command: list[str]) -> dict[str, Any]:
    """What a command prints as JSON; what it says besides is told if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    line: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return line


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "worlds", nargs="*", metavar="dataset", help=f"of {', '.join(WORLDS)}; all by default"
    )
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    file: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8")) if PATH.exists() else {}

    def keep() -> None:
        machine = {"machine": f"{platform.machine()}, {options.threads} thread"}
        write_text(PATH, json.dumps(file | machine, indent=1) + "\n")

    for dataset in options.worlds or WORLDS:
        world, found = WORLDS[dataset], file.setdefault(dataset, {})
        for turn in range(options.turns):
            for name in MODELS:
                turns = found.setdefault(name, [])
                if len(turns) > turn:
                    continue
                scanned = ours(world, name, options.threads, turn)
                cleansed = theirs(world, name, "neural-cleanse", options.threads)
                turns.append({"fedmend": scanned, "neural-cleanse": cleansed})
                keep()
                ratio = cleansed["seconds"] / scanned["scan_seconds"]
                print(
                    f"{dataset}, {name}: {scanned['verdict']} after {scanned['scan_seconds']:.2f} s, Neural Cleanse "
                    f"{cleansed['verdict']} after {cleansed['seconds']:.1f} s: {ratio:.0f} times",
                    flush=True,
                )
        for method in SHORT:
            if method not in found:
                found[method] = theirs(world, "backdoored", method, options.threads)
                keep()
                print(f"{dataset}, {method}: {found[method]['seconds']:,.0f} s, extrapolated", flush=True)


if __name__ == "__main__":
    main()
