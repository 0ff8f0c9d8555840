from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_files import COLOUR, GREY, LABELS, assert_grey, png, refused

from fedmend.data import load_images, open_images
from fedmend.errors import DataError

datasets = pytest.importorskip("datasets")
huggingface_hub = pytest.importorskip("huggingface_hub")


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hub can be reached; what it is asked about, in order."""
    names: list[str] = []
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda _, name, **__: names.append(name))
    return names


def hub_dataset(arrays: np.ndarray = GREY, label: str = "label") -> Any:
    features = datasets.Features(
        {"img": datasets.Image(), label: datasets.ClassLabel(names=["cat", "dog", "elk"])}
    )
    rows = {"img": [{"bytes": png(array), "path": None} for array in arrays], label: LABELS}
    return datasets.Dataset.from_dict(rows, features=features)


def test_parquet_as_datasets_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "some.parquet"
    hub_dataset().to_parquet(path)
    assert_grey(load_images(path, "whatever"), ("cat", "dog", "elk"))
    assert_grey(load_images(str(path)), ("cat", "dog", "elk"))


def test_known_name_from_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(name: str, split: str) -> Any:
        asked.append((name, split))
        return hub_dataset()

    monkeypatch.delenv("FEDMEND_DATA", raising=False)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert_grey(load_images("MNIST"), ("cat", "dog", "elk"))
    assert_grey(load_images("someone/some-set", "validation"), ("cat", "dog", "elk"))
    assert load_images("gtsrb", "train").images.shape == (4, 1, 32, 32)
    assert asked == [
        ("ylecun/mnist", "test"),
        ("someone/some-set", "validation"),
        ("tanganke/gtsrb", "train"),
    ]


def test_hub_images_beside_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = []
    for number, array in enumerate(COLOUR):
        paths.append(str(tmp_path / f"{number}.png"))
        Path(paths[-1]).write_bytes(png(array))
    rows = datasets.Dataset.from_dict({"image": paths, "fine_label": LABELS}).cast_column(
        "image", datasets.Image()
    )
    monkeypatch.setattr(datasets, "load_dataset", lambda name, split: rows.select([3, 1]))
    images = load_images("someone/some-set")
    assert torch.equal(images.images, torch.from_numpy(COLOUR[[3, 1]]).permute(0, 3, 1, 2))
    assert images.labels.tolist() == [2, 2]


def test_without_a_network_only_the_cache_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """``datasets`` would try for minutes; other work in the process may still use the network."""
    seen = []

    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no network")

    def load_dataset(name: str, split: str) -> Any:
        seen.append(datasets.config.HF_HUB_OFFLINE)
        if name == "ylecun/mnist":
            raise ConnectionError("not in the cache")
        return hub_dataset()

    monkeypatch.delenv("FEDMEND_DATA", raising=False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert len(load_images("someone/some-set")) == 4
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", unreachable)
    assert len(load_images("someone/some-set")) == 4
    refused("mnist", match="not in the cache; check .* the network; without a network use .* FEDMEND_DATA")
    assert seen == [False, True, True]
    assert not datasets.config.HF_HUB_OFFLINE


def test_offline_mode_asks_nobody(monkeypatch: pytest.MonkeyPatch, asked: list[str]) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets, "load_dataset", lambda name, split: hub_dataset())
    load_images("someone/some-set")
    assert asked == []


@pytest.mark.parametrize(
    "error", [ValueError('Unknown split "x".\nShould be one of'), ConnectionError(), OSError("no")]
)
def test_hub_failures_are_one_line(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def load_dataset(name: str, split: str) -> None:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    refused("someone/some-set", "x", match="can't read split 'x' of 'someone/some-set' .* FEDMEND_DATA")


def test_hub_dataset_of_another_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "load_dataset", lambda name, split: datasets.DatasetDict())
    refused("someone/some-set", match="expected one split")
    text = datasets.Dataset.from_dict({"text": ["a"], "label": [0]})
    monkeypatch.setattr(datasets, "load_dataset", lambda name, split: text)
    refused("someone/some-set", match="encoded images")


def test_only_the_needed_rows_of_the_hub_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"img": [{"bytes": each, "path": None} for each in (b"junk", png(GREY[1]), png(GREY[2]))]}
    features = datasets.Features({"img": datasets.Image(), "label": datasets.Value("int64")})
    table = datasets.Dataset.from_dict(rows | {"label": [0, 1, 1]}, features=features)
    monkeypatch.setattr(datasets, "load_dataset", lambda name, split: table)
    images = open_images("someone/some-set")
    assert torch.equal(images.subset([2, 1]).images[:, 0], torch.from_numpy(GREY[[2, 1]]))
    with pytest.raises(DataError, match="can't read row 0 of someone/some-set"):
        images.load()
