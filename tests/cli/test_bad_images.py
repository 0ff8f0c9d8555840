"""Images that can't be scanned: one clear line, and nothing is written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import planted

Refused = Callable[..., None]


def saved_images(path: Path, images: Any, labels: Any, **more: Any) -> str:
    np.savez(path, images=np.asarray(images), labels=np.asarray(labels), **more)
    return str(path)


def test_images_of_another_size(refused: Refused, files: Any, tmp_path: Path) -> None:
    images, labels = planted.draw(20, seed=0)
    data = saved_images(tmp_path / "big.npz", images.repeat(1, 1, 2, 2), labels)
    refused(files.scan(files.model("clean"), tmp_path / "out", data=data), "for other images")
    small = saved_images(tmp_path / "small.npz", images[:, :, :8, :8], labels)
    refused(
        files.scan(files.model("clean"), tmp_path / "out", data=small, model="two-conv-8-16"),
        "at least 16x16",
    )


def test_images_of_another_size_than_a_model_takes(refused: Refused, files: Any, tmp_path: Path) -> None:
    """One that isn't told the size when it is built."""
    images, labels = planted.draw(20, seed=0)
    data = saved_images(tmp_path / "small.npz", images, labels)
    refused(
        files.scan(files.model("clean"), tmp_path / "out", data=data, model="convnet"), "architecture|failed"
    )


def test_images_in_colour(refused: Refused, files: Any, tmp_path: Path) -> None:
    images, labels = planted.draw(20, seed=0)
    data = saved_images(tmp_path / "rgb.npz", images.expand(-1, 3, -1, -1), labels)
    refused(files.scan(files.model("clean"), tmp_path / "out", data=data), "for other images")


@pytest.mark.parametrize("named", [True, False])
def test_images_of_one_class(refused: Refused, files: Any, tmp_path: Path, named: bool) -> None:
    images, _ = planted.draw(20, seed=0)
    names = {"class_names": np.array(planted.NAMES)} if named else {}
    data = saved_images(tmp_path / "one.npz", images, np.zeros(20, dtype=np.int64), **names)
    for command in (files.scan, files.repair):
        refused(
            command(files.model("clean"), tmp_path / "out", data=data),
            "2 or more classes|two classes or more",
        )


def test_fewer_images_than_needed(refused: Refused, files: Any, tmp_path: Path) -> None:
    images, labels = planted.draw(8, seed=0)
    data = saved_images(tmp_path / "few.npz", images, labels)
    refused(files.scan(files.model("clean"), tmp_path / "out", data=data), "N at least 10")
    refused([*files.scan(files.model("clean"), tmp_path / "out"), "--images", "5"], "N at least 10")
    refused([*files.scan(files.model("clean"), tmp_path / "out"), "--images", "121"], "has only 120")


@pytest.mark.parametrize("label", [-1, 4])
def test_labels_out_of_range(refused: Refused, files: Any, tmp_path: Path, label: int) -> None:
    images, labels = planted.draw(20, seed=0)
    labels[7] = label
    data = saved_images(tmp_path / "labels.npz", images, labels, class_names=np.array(planted.NAMES))
    refused(files.scan(files.model("clean"), tmp_path / "out", data=data), r"labels .*must be in \[0, ")


def test_pixels_that_are_no_numbers(refused: Refused, files: Any, tmp_path: Path) -> None:
    images, labels = planted.draw(20, seed=0)
    pixels = images.numpy() / 255
    pixels[:, 0, 0, 0] = float("nan")
    data = saved_images(tmp_path / "nan.npz", pixels, labels)
    refused(files.scan(files.model("clean"), tmp_path / "out", data=data), "without NaN")


def test_a_damaged_image_file(refused: Refused, files: Any, tmp_path: Path) -> None:
    path = tmp_path / "cut.npz"
    path.write_bytes(Path(files.images).read_bytes()[:500])
    refused(files.scan(files.model("clean"), tmp_path / "out", data=str(path)), "can't read")
    refused(files.scan(files.model("clean"), tmp_path / "out", data="minst"), "did you mean mnist")
    refused(files.scan(files.model("clean"), tmp_path / "out", data=str(tmp_path / "no.npz")), "no images at")


def test_a_known_name_without_its_file(
    refused: Refused, files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDMEND_DATA", str(tmp_path))
    refused(
        files.scan(files.model("clean"), tmp_path / "out", data="mnist"),
        "FEDMEND_DATA is set but there is no",
    )
