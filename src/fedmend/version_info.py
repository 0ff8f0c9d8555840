"""The versions that a result depends on."""

from __future__ import annotations

import platform
from importlib.metadata import version

import torch


def versions() -> dict[str, str]:
    """fedmend's, torch's and Python's."""
    return {"fedmend": version("fedmend"), "torch": torch.__version__, "python": platform.python_version()}
