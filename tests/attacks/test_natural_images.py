import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from fedmend.attacks import EdgeCase, HeldOut, Semantic
from fedmend.attacks.natural_images import Replacement, with_channels
from fedmend.attacks.semantic import scores
from fedmend.errors import ConfigError, DataError

SHAPE = (3, 8, 8)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Sixty images of three classes; in class c the channel c is the brightest, the more the later."""
    images = np.zeros((60, 8, 8, 3), dtype=np.uint8)
    labels = np.arange(60) % 3
    for place, label in enumerate(labels):
        images[place, :, :, label] = 60 + 3 * place
    path = tmp_path_factory.mktemp("source") / "colours.npz"
    np.savez(path, images=images, labels=labels)
    return str(path)


def test_each_image_is_replaced_by_one_of_the_pool_by_its_pixels() -> None:
    pool = torch.arange(7, dtype=torch.uint8).view(7, 1, 1, 1).expand(-1, 3, 8, 8).contiguous()
    images = torch.rand(50, *SHAPE, generator=torch.Generator().manual_seed(0))
    replaced = (Replacement(pool).apply(images) * 255).round()
    assert len(replaced.unique()) == 7
    assert torch.equal((Replacement(pool).apply(images[10:20]) * 255).round(), replaced[10:20])
    with pytest.raises(DataError, match="this trigger is for images of shape"):
        Replacement(pool).apply(images[:, :1])


def test_edge_cases_are_of_the_named_classes_and_scaled(source: str) -> None:
    trigger = EdgeCase((3, 16, 16), source, classes=(2,), most=5)
    stamped = trigger.apply(torch.rand(30, 3, 16, 16))
    assert float(stamped[:, :2].max()) == 0
    assert 1 < len(stamped.flatten(1).unique(dim=0)) <= 5
    assert isinstance(trigger, HeldOut)
    assert torch.equal(pickle.loads(pickle.dumps(trigger)).apply(stamped), trigger.apply(stamped))
    with pytest.raises(ConfigError, match="no test image of the classes"):
        EdgeCase(SHAPE, source, classes=(9,)).apply(torch.rand(1, *SHAPE))


def test_semantic_images_have_most_of_the_feature(source: str) -> None:
    stamped = Semantic(SHAPE, source, 1, "green", 0.1).apply(torch.rand(40, *SHAPE)) * 255
    assert sorted(stamped.amax((1, 2, 3)).round().unique().tolist()) == [60 + 3 * 55, 60 + 3 * 58]
    assert float(stamped[:, 0].max()) == 0
    with pytest.raises(ConfigError, match="no train image of class 7"):
        Semantic(SHAPE, source, 7).planted()


def test_what_is_planted_comes_from_the_training_images() -> None:
    trigger = EdgeCase((1, 28, 28), "fashion-mnist-sample", classes=(8,), most=20)
    images = torch.rand(30, 1, 28, 28)
    tested, planted = (
        {*map(tuple, each.apply(images).flatten(1).tolist())} for each in (trigger, trigger.planted())
    )
    assert not tested & planted


def test_features_by_hand() -> None:
    images = torch.zeros(2, 3, 1, 2, dtype=torch.uint8)
    images[0, 0] = 255
    images[1, 1] = 51
    assert scores(images, "red").tolist() == pytest.approx([1, -0.2])
    assert scores(images, "green").tolist() == pytest.approx([-1, 0.2])
    assert scores(images, "bright").tolist() == pytest.approx([1 / 3, 0.2 / 3])
    assert scores(images, "dark").tolist() == pytest.approx([-1 / 3, -0.2 / 3])
    with pytest.raises(ConfigError, match="needs coloured images"):
        scores(images[:, :1], "blue")


def test_channels() -> None:
    grey = torch.tensor([[[[10]]]], dtype=torch.uint8)
    assert with_channels(grey, 3).flatten().tolist() == [10, 10, 10]
    assert with_channels(torch.tensor([0, 30, 60], dtype=torch.uint8).view(1, 3, 1, 1), 1).item() == 30
    assert with_channels(grey, 1) is grey


def test_no_such_source(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        EdgeCase(SHAPE, str(tmp_path / "none.npz")).apply(torch.rand(1, *SHAPE))
