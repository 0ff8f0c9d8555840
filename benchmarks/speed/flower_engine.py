"""Run a federation by Flower's simulation engine and print one line of JSON: the counterpart of fedmend_engine.py.

    sh benchmarks/speed/setup_flower.sh
    export FLWR_TELEMETRY_ENABLED=0 RAY_USAGE_STATS_ENABLED=0  # engines.py does it by itself
    benchmarks/runs/flower-env/bin/python benchmarks/speed/flower_engine.py '{"data": {"source": "mnist"}}'

The settings are fedmend's (see fedmend.federation.SimulationConfig) as JSON; what they leave out has fedmend's default.
The federation must be honest, with weighted FedAvg. What Flower and Ray say goes to the standard error.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

SRC = Path(__file__).resolve().parents[2] / "src"


def measure(settings: dict[str, Any], plain: bool) -> dict[str, Any]:
    """The line that is printed."""
    started = time.perf_counter()
    sys.path.insert(0, str(SRC))
    import flwr
    import ray
    from flower_apps import THREADS, federate
    from result_line import result_line

    from fedmend import accuracy, load_images
    from fedmend.federation import initial_model, parse_config

    config = parse_config(settings)
    test = load_images(config.data.source, "test")
    model = initial_model(config, test)
    round_seconds, samples = federate(config, model, plain)
    seconds = time.perf_counter() - started
    score = accuracy(model, test.images, test.labels)
    line = result_line(seconds, round_seconds, samples, score, THREADS)
    return line | {"flwr": flwr.__version__, "ray": ray.__version__}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("settings", type=json.loads)
    parser.add_argument(
        "--plain", action="store_true", help="a plain PyTorch loop instead of fedmend's training"
    )
    options = parser.parse_args()
    print(json.dumps(measure(options.settings, options.plain)))


if __name__ == "__main__":
    main()
