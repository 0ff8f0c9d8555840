"""The guard, which only the server makes: it has images of its own and a history on its disk."""

from __future__ import annotations

import os
from pathlib import Path

from network import Network

from fedmend import Guard, GuardPolicy, load_images


def make() -> Guard:
    own = load_images("fashion-mnist-sample", "test")
    return Guard(
        GuardPolicy.from_toml(Path(__file__).with_name("policy.toml")),
        model=Network,
        images=own.images,
        labels=own.labels,
        history=os.environ.get("GUARD_HISTORY", "guard-history"),
    )
