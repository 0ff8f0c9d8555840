"""Samples a second of a federation, fedmend's simulator and Flower's simulation engine in turns; results/engines.json.

    sh benchmarks/speed/setup_flower.sh
    python benchmarks/speed/engines.py --turns 3

The same clients of the same images train the same model in the same rounds, each run in a process of its own: fedmend
with one client a core at once, as the command line has it, and with one at a time; and Flower with as many clients at
once as there are cores, by fedmend's own training function and by a plain PyTorch loop. The rounds alone are compared,
and whole runs, which have start-up and reading the images in them, and in fedmend's case measuring the model after
each round: Flower's run measures it once, outside the time. Run it alone; what has been measured is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

from fedmend.federation import DataConfig, FederationConfig, ModelConfig, SimulationConfig
from fedmend.files import write_text
from fedmend.local_training import LocalTraining

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.commits import commit

HERE = Path(__file__).resolve().parent
PATH = HERE / "results" / "engines.json"
FLOWER = HERE.parent / "runs" / "flower-env"
QUIETLY = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # by Ray's default of 15, whatever else runs would slow Flower alone
    "FLWR_HOME": str(FLOWER / "home"),  # else a file in the user's home
}
OURS = [sys.executable, str(HERE / "fedmend_engine.py")]
THEIRS = [str(FLOWER / "bin" / "python"), str(HERE / "flower_engine.py")]
PLAIN = "flower, plain PyTorch loop"
ENGINES = {
    "fedmend": OURS,
    "fedmend, one client at a time": [*OURS, "--workers", "1"],
    "flower": THEIRS,
    PLAIN: [*THEIRS, "--plain"],
}
FEDERATIONS = {
    "mnist": SimulationConfig(
        data=DataConfig("mnist"), model=ModelConfig("convnet"), federation=FederationConfig(rounds=5)
    ),
    "fashion-mnist": SimulationConfig(
        data=DataConfig("fashion-mnist"),
        model=ModelConfig("two-conv-20-50"),
        training=LocalTraining(epochs=1, optimizer="sgd", lr=0.05, momentum=0.0),
        federation=FederationConfig(rounds=5),
    ),
    "many small clients of mnist": SimulationConfig(
        data=DataConfig("mnist"),
        model=ModelConfig("convnet"),
        training=LocalTraining(epochs=1, batch_size=20, optimizer="adam", lr=0.002),
        federation=FederationConfig(clients=1000, clients_per_round=100, rounds=20),
    ),
}
APART = 0.015


def line_of(command: list[str]) -> dict[str, Any]:
    """What a command prints as JSON; what it says besides is told if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    line: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return line


def ratio(turn: dict[str, Any], engine: str, key: str) -> float:
    """How many times as fast as Flower."""
    return turn[engine][key] / turn["flower"][key]


def summary(turns: list[dict[str, Any]], engine: str) -> str:
    """Medians over the turns, and how far the accuracies of one turn are apart at most."""
    seconds = {
        name: median(turn[engine][key] for turn in turns)
        for name, key in (("rounds", "round_seconds"), ("whole", "seconds"))
    }
    if engine == "flower":
        return f"flower: rounds {seconds['rounds']:.1f} s, whole run {seconds['whole']:.1f} s"
    rounds = median(ratio(turn, engine, "samples_per_second_of_rounds") for turn in turns)
    whole = median(ratio(turn, engine, "samples_per_second") for turn in turns)
    apart = max(abs(turn[engine]["accuracy"] - turn["flower"]["accuracy"]) for turn in turns)
    text = (
        f"{engine}: rounds {seconds['rounds']:.1f} s, {rounds:.2f} times Flower's samples a second; "
        f"whole run {seconds['whole']:.1f} s, {whole:.2f} times; accuracies {100 * apart:.2f} points apart"
    )
    return text + (": TOO FAR, not the same federation" if apart > APART and engine != PLAIN else "")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("federations", nargs="*", help=f"of {', '.join(FEDERATIONS)}; all by default")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--rounds", type=int, help="else the federation's own")
    parser.add_argument("--out", type=Path, default=PATH)
    options = parser.parse_args()
    os.environ.update(QUIETLY)
    out: Path = options.out
    file: dict[str, Any] = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}

    for name in options.federations or FEDERATIONS:
        settings = FEDERATIONS[name].to_dict()
        if options.rounds is not None:
            settings["federation"]["rounds"] = options.rounds
        found = file.setdefault(name, {"settings": settings, "turns": []})
        if found["settings"] != settings:
            sys.exit(f"{out} has {name} with other settings; choose another file with --out")
        turns: list[dict[str, Any]] = found["turns"]
        while len(turns) < options.turns:
            turns.append(
                {engine: line_of([*command, json.dumps(settings)]) for engine, command in ENGINES.items()}
            )
            machine = {"machine": f"{platform.machine()}, {os.cpu_count()} cores"}
            turns[-1]["commit"] = commit()
            write_text(out, json.dumps(file | machine, indent=1) + "\n")
            print(f"{name}, turn {len(turns)}:", json.dumps(turns[-1]), flush=True)
        for engine in ENGINES:
            print(f"{name}, {summary(turns, engine)}", flush=True)


if __name__ == "__main__":
    main()
