"""Seeds for parts of a job, so that the order in which parts run doesn't change their randomness."""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def unpredictable_seed() -> int:
    """A seed in [0, 2^32) from the operating system, so that nobody can prepare a model for what it draws."""
    return secrets.randbelow(2**32)


def derive_seed(seed: int, *parts: int | str) -> int:
    """A 63-bit seed for one part of a job, for example ``derive_seed(seed, "fit", round_number, client_id)``."""
    text = "/".join(str(part) for part in (seed, *parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *parts: int | str) -> torch.Generator:
    """A separate CPU generator for one part of a job."""
    import torch  # here, since the command line's help needs seeds and no torch

    return torch.Generator().manual_seed(derive_seed(seed, *parts))
