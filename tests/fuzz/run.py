"""Run fedmend on hostile files made at random, with fixed seeds: no code is run, no traceback, little memory and time.

Each command runs in a child process of its own. From the root of the repository:

    .venv/bin/python tests/fuzz/run.py --files 300

A file that fails is made again and kept with ``--only NUMBER --keep FOLDER``. For Linux.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path

import torch
from children import LARGEST_MIB, LONGEST_SECONDS, Outcome, faults, run_child
from trials import Trial, make_intact, make_trial


def main() -> None:
    """Exit with 1 if a file fails."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=300, help="how many; default: 300")
    parser.add_argument("--seed", type=int, default=0, help="other files; default: 0")
    parser.add_argument("--only", type=int, nargs="+", metavar="NUMBER", help="these files alone")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave the files there")
    args = parser.parse_args()
    torch.set_num_threads(1)  # a process with more threads can't be copied
    with tempfile.TemporaryDirectory() as temporary:
        folder = (args.keep or Path(temporary)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        sys.exit(_run(folder, args.only or range(args.files), args.seed, args.keep is not None))


def _run(folder: Path, numbers: range | list[int], seed: int, keep: bool) -> int:
    from fedmend.cli import report_command, scan_command, simulate_command  # noqa: F401  once, and not in each child

    intact = folder / "intact"
    intact.mkdir()
    make_intact(intact, lambda words: run_child(partial(_command, words), intact).code)
    print(f"The intact files work; {len(numbers)} hostile ones follow", flush=True)
    failed, codes, most_mib, most_seconds = 0, Counter[str](), 0.0, 0.0
    for number in numbers:
        place = folder / f"{number:04d}"
        trial = make_trial(f"{seed} {number}", intact, place)
        outcome = run_child(partial(_command, list(trial.arguments)), place)
        found = list(faults(outcome))
        failed += bool(found)
        codes[f"{trial.kind}: {outcome.code}"] += 1
        most_mib, most_seconds = max(most_mib, outcome.mib), max(most_seconds, outcome.seconds)
        if found or keep:
            _show(number, trial, outcome, found)
        if not keep:
            shutil.rmtree(place)
    print("Exit codes:", ", ".join(f"{name} ({count})" for name, count in sorted(codes.items())))
    print(f"At most {most_mib:.0f} MiB of {LARGEST_MIB} and {most_seconds:.1f} s of {LONGEST_SECONDS}")
    print(f"{len(numbers) - failed} of {len(numbers)} files pass")
    return 1 if failed else 0


def _command(words: list[str]) -> None:
    from fedmend.cli import main as command_line

    command_line(words)


def _show(number: int, trial: Trial, outcome: Outcome, found: list[str]) -> None:
    print(f"{number} {trial.kind}: {'; '.join(found) or 'pass'}: fedmend {shlex.join(trial.arguments)}")
    print(f"    exit {outcome.code}, {outcome.mib:.0f} MiB, {outcome.seconds:.1f} s")
    for line in (outcome.out + outcome.err).splitlines()[-12:]:
        print(f"    {ascii(line)[1:-1][:400]}", flush=True)


if __name__ == "__main__":
    main()
