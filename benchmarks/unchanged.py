"""Compare two results files of one benchmark, model by model: has a change of the code changed a result?

    python benchmarks/unchanged.py before/mnist.json benchmarks/detection/results/mnist.json

Both must come from the same trained models on the same machine. Compared are verdict, target, outcome, and every
accuracy and attack success rate; times are not. The exit code is 1 where anything differs.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

TIMES = ("seconds", "memory", "commit", "settings", "reason", "stop_reason", "warnings", "versions")


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Each value that is in both and differs, as ``path: before -> after``; a model that only one has is left out."""
    return [
        line
        for name in sorted(before["models"].keys() & after["models"].keys())
        for line in _compared(before["models"][name], after["models"][name], name)
    ]


def _compared(before: Any, after: Any, path: str) -> list[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        keys = [key for key in before if key in after and not any(time in key for time in TIMES)]
        return [line for key in keys for line in _compared(before[key], after[key], f"{path}: {key}")]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = enumerate(zip(before, after, strict=True))
        return [line for index, pair in pairs for line in _compared(*pair, f"{path}[{index}]")]
    return [] if before == after else [f"{path}: {before} -> {after}"]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    options = parser.parse_args()
    before, after = (json.loads(path.read_text(encoding="utf-8")) for path in (options.before, options.after))
    found = differences(before, after)
    shared = len(before["models"].keys() & after["models"].keys())
    print(*found, f"{len(found)} differences in {shared} models", sep="\n")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
