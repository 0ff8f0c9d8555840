import json
import time
from pathlib import Path
from typing import Any

import torch
from benchmarks.aggregation.memory import NOT_IN_BLOCKS, PeakMemory
from benchmarks.aggregation.tables import tables
from benchmarks.aggregation.targets import RULES, targets

from fedmend.aggregation import AGGREGATORS


def row(peak: float) -> dict[str, Any]:
    return {
        "clients": 1000,
        "parameters": 250_000,
        "peak_mib": peak,
        "update_mib": 1.0,
        "all_updates_mib": 1000.0,
        "seconds": 12.3,
        "commit": "abc",
    }


def test_every_rule_is_measured_or_said_to_need_a_copy() -> None:
    assert {name for name in RULES if "running" not in name} == set(AGGREGATORS) - set(NOT_IN_BLOCKS)


def test_the_largest_memory_counts(tmp_path: Path) -> None:
    file = tmp_path / "memory.json"
    assert targets(file)[0].status == "not run"
    file.write_text(json.dumps({"median": row(90), "krum": row(100)}), encoding="utf-8")
    (line,) = targets(file)
    assert (line.measured, line.status) == ("at most 98 MiB (krum)", "incomplete")
    file.write_text(json.dumps({name: row(259) for name in RULES}), encoding="utf-8")
    assert targets(file)[0].status == "missed"
    assert "| krum | 1,000 | 250,000 | 259 | 1 | 1,000 | 12 | `abc` |" in tables(file)


def test_peak_memory_sees_what_is_held_for_a_moment() -> None:
    with PeakMemory() as peak:
        held = torch.ones(64, 2**20)  # 256 MiB
        time.sleep(0.2)
        del held
    assert 200 <= peak.mib < 600
