from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from image_files import GREY, LABELS, assert_grey, png, refused, write_parquet

from fedmend.data import load_images


@pytest.mark.parametrize(("split", "each"), [("train", 1200), ("test", 200)])
def test_sample(split: str, each: int) -> None:
    images = load_images("Fashion_MNIST-sample", split)
    assert images.images.shape == (10 * each, 1, 28, 28)
    assert torch.bincount(images.labels).tolist() == [each] * 10
    assert images.class_names[9] == "Ankle boot"


def test_sample_has_two_splits() -> None:
    refused("fashion-mnist-sample", "validation", match="choose train or test")


def test_known_name_from_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDMEND_DATA", str(tmp_path))
    write_parquet(tmp_path / "fashion_mnist" / "test.parquet", image=[png(a) for a in GREY], label=LABELS)
    for name in ("fashion-mnist", "fashion_mnist", "Fashion-MNIST"):
        assert_grey(load_images(name), ("0", "1", "2"))
    refused("fashion-mnist", "train", match=r"FEDMEND_DATA is set but there is no .*train\.parquet")
    refused("fashion-mnist", "../x", match="choose train or test")


def test_the_hub_needs_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)  # importing it then fails
    refused("someone/some-set", match=r"pip install 'fedmend\[hub\]'")


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("minst", "did you mean mnist"),
        ("cifar-10", "did you mean cifar10"),
        ("fashion_mnist_sampel", "did you mean fashion-mnist-sample"),
        ("", "no such name"),
        ("missing/file.parquet", "no such name"),
        ("/missing/folder", "no such name"),
        (Path("missing/folder"), "no such name"),
        ("../a/b", "no such name"),
        ("a\nb", "no such name"),
        ("x" * 5000, "expected"),
        ("nul\0byte", "expected"),
        (None, "NoneType"),
    ],
)
def test_nothing_there(source: Any, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    refused(source, match=told)


def test_other_files(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("0,1")
    refused(tmp_path / "a.csv", match="not a file of images")
