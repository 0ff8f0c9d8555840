from pathlib import Path

import pytest
import torch
from torch import nn

from fedmend.detection.search import memory
from fedmend.detection.search.memory import (
    allowed_memory,
    free_memory,
    images_at_once,
    in_words,
    kept_for_gradient,
)
from fedmend.errors import ConfigError

CPU = torch.device("cpu")
IMAGES = torch.rand(3, 1, 8, 8)
NETWORK = nn.Sequential(nn.Conv2d(1, 4, 1, bias=False), nn.Sigmoid(), nn.Sigmoid()).requires_grad_(False)
KEPT = (64 + 4 * 64 * 2 + 4) * 4
"""The images, the outputs of both sigmoids, and the convolution's weights."""


def test_what_autograd_keeps_is_counted_once_and_grows_with_the_images() -> None:
    assert kept_for_gradient(NETWORK, IMAGES[:1]) == KEPT
    assert kept_for_gradient(NETWORK, IMAGES) == KEPT + 2 * (64 + 4 * 64 * 2) * 4


def test_a_model_may_work_in_place() -> None:
    images = IMAGES.clone()
    assert kept_for_gradient(lambda given: NETWORK(given.mul_(0.5)), images[:1]) == KEPT
    assert torch.equal(images, IMAGES)


def test_the_memory_is_shared_out_among_images_of_all_models() -> None:
    needed = int(1.5 * 2 * KEPT)
    assert images_at_once([NETWORK, NETWORK], IMAGES, 40 * needed) == 30
    assert images_at_once([NETWORK, NETWORK], IMAGES, needed) == 1


def test_a_model_that_is_too_large_for_one_image_is_refused_in_words() -> None:
    with pytest.raises(ConfigError, match=r"needs about 1 MiB, and may take 1 MiB; .* --memory"):
        images_at_once([NETWORK], IMAGES, KEPT)


def test_without_a_limit_half_of_what_is_free_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda _: 1000)
    assert (allowed_memory(None, CPU), allowed_memory(7, CPU)) == (500, 7)


def test_free_memory_is_within_what_the_machine_has() -> None:
    assert 2**20 < free_memory(CPU) < 2**50


def files(folder: Path, **values: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in values.items():
        (folder / f"memory.{name}").write_text(value)


def test_limits_of_control_groups_and_those_above_count(tmp_path: Path) -> None:
    root, own = tmp_path / "groups", tmp_path / "own"
    own.write_text("0::/a/b\n")
    files(root / "a", max="1000", current="300")
    files(root / "a" / "b", max="max", current="200")
    assert memory._left_in_groups(root, own) == [700]


def test_control_groups_of_version_1(tmp_path: Path) -> None:
    root, own = tmp_path / "groups", tmp_path / "own"
    own.write_text("3:cpu,cpuacct:/x\n2:memory:/c\n")
    files(root / "memory" / "c", limit_in_bytes="500", usage_in_bytes="600")
    assert memory._left_in_groups(root, own) == [0]
    assert memory._left_in_groups(root, tmp_path / "absent") == []


def test_sizes_in_words() -> None:
    assert (in_words(3 * 2**29), in_words(300 * 2**20), in_words(5)) == ("1.5 GiB", "300 MiB", "1 MiB")
