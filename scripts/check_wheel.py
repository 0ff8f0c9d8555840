"""Check a built wheel: what is inside, and that it works in an empty environment."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

_PACKAGE = Path(__file__).parents[1] / "src" / "fedmend"
_MUST_HAVE = ("py.typed", "data/sample/train.npz", "data/sample/test.npz", "data/sample/LICENSE.txt")
_LIMIT_MIB = 10
_USE = """
import fedmend, fedmend.pages
for name in fedmend.__all__:
    getattr(fedmend, name)
from fedmend.data import load_images
for split, count in ("train", 12_000), ("test", 2_000):
    images = load_images("fashion-mnist-sample", split)
    assert tuple(images.images.shape) == (count, 1, 28, 28), images.images.shape
"""


def main() -> None:
    """Check the wheel named on the command line; an error ends with exit code 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--contents-only", action="store_true", help="don't install it")
    args = parser.parse_args()
    _check_contents(args.wheel)
    if not args.contents_only:
        _check_installed(args.wheel)
    print(f"{args.wheel.name}: {args.wheel.stat().st_size / 2**20:.1f} MiB, in order")


def _check_contents(wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    sources = {
        f"fedmend/{path.relative_to(_PACKAGE).as_posix()}"
        for path in _PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    wanted = sources | {f"fedmend/{name}" for name in _MUST_HAVE}
    if missing := sorted(wanted - packed):
        sys.exit(f"the wheel lacks {', '.join(missing)}")
    if foreign := sorted(name for name in packed - wanted if ".dist-info/" not in name):
        sys.exit(f"the wheel holds what isn't the package's: {', '.join(foreign)}")
    if wheel.stat().st_size > _LIMIT_MIB * 2**20:
        sys.exit(f"the wheel is larger than {_LIMIT_MIB} MiB")


def _check_installed(wheel: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        programs = Path(folder) / ("Scripts" if os.name == "nt" else "bin")
        _run(programs / "python", "-m", "pip", "install", "--quiet", wheel.resolve())
        _run(programs / "fedmend", "--help", cwd=folder)
        _run(programs / "python", "-I", "-c", _USE, cwd=folder)


def _run(*command: str | Path, cwd: str | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        sys.exit(
            f"exit code {done.returncode} in the empty environment from: {' '.join(map(str, command[:4]))}"
        )


if __name__ == "__main__":
    main()
