"""Run a folder of cases: each is a folder with a ``run.sh`` that exits 0 where fedmend is right.

A case runs in a temporary copy of its folder, with two variables: FEDMEND, the fedmend executable beside this Python,
and DATA, the folder of the datasets. Case scripts are run with your rights.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    """Run the cases named on the command line; exit with 1 if one fails, or if there is none."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="the folder of the cases")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="run these cases alone")
    parser.add_argument(
        "--fedmend",
        type=Path,
        default=Path(sys.executable).with_name("fedmend"),
        help="default: the one beside this Python",
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("FEDMEND_DATA"),
        help="the folder of the datasets; default: FEDMEND_DATA",
    )
    parser.add_argument("--limit", type=float, default=600, help="seconds for each; default: 600")
    args = parser.parse_args()
    if args.data is None:
        parser.error("expected the folder of the datasets; give --data, or set FEDMEND_DATA")
    found = sorted(script.parent for script in args.folder.glob("*/run.sh"))
    cases = [case for case in found if args.only is None or case.name in args.only]
    if not cases:
        parser.error(f"expected folders that hold a run.sh in {args.folder}, and found none to run")
    environment = os.environ | {
        "FEDMEND": str(args.fedmend.absolute()),
        "DATA": str(args.data.absolute()),
    }
    failed = sum(not _passes(case, environment, args.limit) for case in cases)
    print(f"{len(cases) - failed} of {len(cases)} cases pass")
    sys.exit(1 if failed else 0)


def _passes(case: Path, environment: dict[str, str], limit: float) -> bool:
    """Run one case and print a line on it; what it printed as well if it fails."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as output:
        copy = shutil.copytree(case, Path(folder) / case.name)
        process = subprocess.Popen(
            ["bash", "run.sh"],
            cwd=copy,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(limit)
            outcome = "pass" if code == 0 else f"FAIL: exit code {code}"
        except subprocess.TimeoutExpired:
            code, outcome = -1, f"FAIL: still running after {limit:g} s"
        finally:
            if process.poll() is None:  # its commands end with it
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        output.seek(0)
        text = output.read().decode(errors="backslashreplace")
    print(f"{case.name}: {outcome} ({time.monotonic() - started:.0f} s)", flush=True)
    if code != 0:
        print("".join(f"    {_printable(line)}\n" for line in text.splitlines()[-15:]), end="")
    return code == 0


def _printable(line: str) -> str:
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in line)


if __name__ == "__main__":
    main()
