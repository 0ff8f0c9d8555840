"""How many images a gradient step may hold at once."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from fedmend.errors import ConfigError

_WORKING = 1.5
"""What a pass takes besides the activations that autograd keeps, as a factor: gradients, buffers of the kernels,
fragments. An estimate."""


def images_at_once(models: list[Callable[[Tensor], object]], images: Tensor, memory: int) -> int:
    """How many images may go through all models, forward and backward, at once; at least 1.

    The activations that autograd keeps are counted for one image, none of them being kept.

    Args:
        models: images to logits, as they are differentiated.
        images: clean ones, float (N, C, H, W), on the models' device.
        memory: bytes that all of the work may take; a quarter is left for the rest.

    Raises:
        ConfigError: not even one image fits.
    """
    needed = max(1, int(_WORKING * sum(kept_for_gradient(model, images[:1]) for model in models)))
    if needed > memory:
        raise ConfigError(
            f"a gradient step on one image of shape {tuple(images.shape[1:])} needs about {in_words(needed)}, and may "
            f"take {in_words(memory)}; {in_words(free_memory(images.device))} are free: allow more by --memory, or "
            "memory=... in Python, end other programs, or use a machine with more memory"
        )
    return max(1, (memory - memory // 4) // needed)


def allowed_memory(limit: int | None, device: torch.device) -> int:
    """The limit in bytes, or half of what is free on the device if it is None."""
    return limit if limit is not None else free_memory(device) // 2


def kept_for_gradient(model: Callable[[Tensor], object], images: Tensor) -> int:
    """The bytes of the activations that autograd keeps for a backward pass to these images."""
    sizes = dict[int, int]()

    def count(kept: Tensor) -> None:
        if kept.layout == torch.strided:  # packed weights have no storage to look at
            storage = kept.untyped_storage()
            sizes[storage.data_ptr()] = max(storage.nbytes(), sizes.get(storage.data_ptr(), 0))

    def unavailable(_: None) -> Tensor:
        raise AssertionError("nothing was kept")

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(count, unavailable):
        model(images.detach().requires_grad_().clone())  # a copy, which a model may work on in place
    return sum(sizes.values())


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device: of a CPU, what the system has available, within the process's control groups."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return min([_available(), *_left_in_groups()])


def in_words(count: int) -> str:
    """Bytes as people write them: "1.5 GiB", "300 MiB"."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{max(1, round(count / 2**20))} MiB"


def _available() -> int:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    except OSError:
        pass
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return sys.maxsize


def _left_in_groups(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> list[int]:
    """What is left of each limit of a control group that the process is in, of version 1 or 2."""
    left = []
    try:
        groups = [line.split(":", 2)[1:] for line in own.read_text(encoding="utf-8").splitlines()]
    except OSError:
        return []
    for controllers, path in groups:
        if controllers and "memory" not in controllers.split(","):
            continue
        base = root if not controllers else root / "memory"
        names = (
            ("memory.max", "memory.current")
            if not controllers
            else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        )
        folder = base / path.lstrip("/")
        for each in (folder, *folder.parents):
            if each == base.parent:
                break
            try:
                limit, used = ((each / name).read_text(encoding="ascii").strip() for name in names)
            except OSError:
                continue
            if limit != "max":
                left.append(max(0, int(limit) - int(used)))
    return left
