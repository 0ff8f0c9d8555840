"""The peak of a process's resident memory, which Linux alone tells."""

from __future__ import annotations

from pathlib import Path

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def forget_peak() -> float | None:
    """Forget the peak so far; what is resident now, in MiB, or None where it can't be known."""
    try:
        CLEAR.write_text("5")
    except OSError:
        return None
    return peak_mib()


def peak_mib() -> float:
    """The peak since it was last forgotten, in MiB."""
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024
