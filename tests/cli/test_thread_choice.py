from collections.abc import Iterator

import pytest
import torch
from torch import nn

from fedmend.cli import thread_choice
from fedmend.cli.thread_choice import use_one_thread_if_small
from fedmend.models import build_model

IMAGE = torch.rand(1, 28, 28)


@pytest.fixture(autouse=True)
def _three_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def network() -> nn.Module:
    return build_model("convnet", num_classes=10, in_channels=1, image_size=(28, 28), seed=0).eval()


def test_a_small_model_gets_one_thread() -> None:
    use_one_thread_if_small(network(), IMAGE)
    assert torch.get_num_threads() == 1


def test_a_large_model_keeps_torchs_threads() -> None:
    wide = nn.Sequential(
        nn.Conv2d(1, 256, 5, padding=2), nn.Conv2d(256, 8, 3), nn.Flatten(), nn.Linear(5408, 2)
    )
    use_one_thread_if_small(wide.eval(), IMAGE)
    assert torch.get_num_threads() == 3


def test_what_the_environment_says_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    use_one_thread_if_small(network(), IMAGE)
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize(
    ("small", "threads"), [(576 * 9 * 3 + 10 * 1728, 3), (576 * 9 * 3 + 10 * 1728 + 1, 1)]
)
def test_multiply_adds_of_every_layer_count(
    small: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thread_choice, "SMALL", small)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(1728, 10)).eval()
    use_one_thread_if_small(model, torch.rand(1, 26, 26))
    assert torch.get_num_threads() == threads
    assert not model[0]._forward_hooks
