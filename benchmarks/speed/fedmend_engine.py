"""Run a federation by fedmend's simulator and print one line of JSON: the counterpart of flower_engine.py.

    python benchmarks/speed/fedmend_engine.py '{"data": {"source": "mnist"}}' --workers 1

The settings are those of fedmend.federation.SimulationConfig as JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any


def measure(settings: dict[str, Any], workers: int) -> dict[str, Any]:
    """The line that is printed."""
    started = time.perf_counter()
    import torch
    from result_line import result_line, samples_of

    from fedmend import load_images, simulate
    from fedmend.federation import Execution, build_federation, parse_config

    workers = workers or torch.get_num_threads()
    config = parse_config(settings)
    with tempfile.TemporaryDirectory() as folder:
        run = simulate(config, Path(folder), execution=Execution(workers=workers))
        seconds = time.perf_counter() - started
        _, *rounds = run.records()
    clients = build_federation(config, load_images(config.data.source, "train")).clients
    samples = sum(
        samples_of(config.training, len(clients[index].images))
        for record in rounds
        for index in record.clients
    )
    return result_line(
        seconds,
        sum(record.seconds for record in rounds),
        samples,
        rounds[-1].accuracy,
        1 if workers > 1 else torch.get_num_threads(),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("settings", type=json.loads)
    parser.add_argument(
        "--workers", type=int, default=0, help="by default one a core, as fedmend simulate has it"
    )
    options = parser.parse_args()
    print(json.dumps(measure(options.settings, options.workers)))


if __name__ == "__main__":
    main()
