"""Print the README's table from results/ablation.json.

python benchmarks/acceleration/tables.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PATH = Path(__file__).resolve().parent / "results" / "ablation.json"
PARTS = ("folding", "half precision", "packing", "joining", "all")


def table(file: dict[str, Any]) -> str:
    """Time without each part over time with all: median (quartiles; ratio of the least times)."""
    lines = [f"| Model | precision | rounds | {' | '.join(PARTS)} |", "| --- " * (len(PARTS) + 3) + "|"]
    for precision, models in file.items():
        for model, row in models.items():
            cells = [_cell(row[part]) if part in row else "" for part in PARTS]
            lines.append(f"| {model} | {precision} | {row['rounds']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(ratio: dict[str, Any]) -> str:
    low, high = ratio["quartiles"]
    return f"{ratio['median']:.2f} ({low:.2f} to {high:.2f}; {ratio['least_times']:.2f})"


if __name__ == "__main__":
    print(table(json.loads(PATH.read_text(encoding="utf-8"))))
