"""Seeds for parts of a job, so that the order in which parts run doesn't change their randomness."""

from __future__ import annotations

import hashlib
import random
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def seeded(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Within, the global generators of Python, NumPy and torch start from a seed; afterwards they are as before.

    fedmend's own code needs none of them but torch's, for dropout; a user's model, trigger or rule may use any.

    Args:
        seed: 63 bits, as :func:`derive_seed` gives it.
        device: on CUDA, its generator is among torch's.
    """
    import numpy as np
    import torch

    on = torch.device(device)
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng([on] if on.type == "cuda" else []):
            random.seed(seed)
            np.random.seed(seed % 2**32)
            torch.manual_seed(seed)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
