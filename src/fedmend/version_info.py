"""The versions that a result depends on."""

from __future__ import annotations

import platform
from importlib.metadata import version

import torch


def versions() -> dict[str, str]:
    """The versions of fedmend, torch and Python."""
    return {"fedmend": version("fedmend"), "torch": torch.__version__, "python": platform.python_version()}
