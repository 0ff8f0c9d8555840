from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_files import COLOUR, GREY, LABELS, assert_colour, assert_grey, refused

from fedmend.data import load_images, open_images
from fedmend.errors import DataError


@pytest.mark.parametrize(
    "images",
    [GREY, GREY[..., None], GREY[:, None], (GREY / 255).astype(np.float32), GREY.astype(np.float64) / 255],
)
def test_npz_grey(tmp_path: Path, images: np.ndarray) -> None:
    np.savez(tmp_path / "a.npz", images=images, labels=np.array(LABELS, dtype=np.uint8))
    assert_grey(load_images(tmp_path / "a.npz"), ("0", "1", "2"))


def test_npz_colour_and_names(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", images=COLOUR, labels=LABELS, class_names=["x", "y", "z"])
    images = load_images(tmp_path / "a.npz")
    assert_colour(images)
    assert images.class_names == ("x", "y", "z")


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a pickle was loaded",))


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"labels": LABELS}, "no array images"),
        ({"x": GREY}, "no array images and no labels"),
        ({"images": GREY, "labels": [0.0, 1, 2, 2]}, "integers"),
        ({"images": GREY, "labels": [[0], [1], [2], [2]]}, "texts of shape"),
        ({"images": GREY, "labels": [0, 1]}, "4 images and 2 labels"),
        ({"images": GREY, "labels": [0, 1, -1, 2]}, "from -1"),
        ({"images": GREY, "labels": np.array([0, 1, 2, 2**64 - 1], dtype=np.uint64)}, "count classes from 0"),
        ({"images": GREY[:0], "labels": np.zeros(0, dtype=np.int64)}, "at least one image"),
        ({"images": GREY[0], "labels": LABELS}, "must have shape"),
        ({"images": np.zeros((4, 5, 6, 2), np.uint8), "labels": LABELS}, "C 1 or 3"),
        ({"images": GREY.astype(np.int64), "labels": LABELS}, "uint8"),
        ({"images": GREY.astype(np.float32), "labels": LABELS}, "divide"),
        ({"images": np.full((4, 5, 6), np.nan), "labels": LABELS}, "NaN"),
        ({"images": GREY, "labels": LABELS, "class_names": [1, 2, 3]}, "strings"),
        ({"images": GREY, "labels": LABELS, "class_names": ["a", "b"]}, "2 class names"),
        ({"images": np.array([Hostile()], dtype=object), "labels": [0]}, "can't read"),
        (
            {"images": GREY, "labels": LABELS, "class_names": np.array([Hostile()], dtype=object)},
            "can't read",
        ),
    ],
)
def test_npz_that_can_not_be_used(tmp_path: Path, arrays: dict[str, Any], told: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    refused(tmp_path / "a.npz", match=told)


def test_damaged_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=GREY, labels=LABELS)
    whole = (tmp_path / "a.npz").read_bytes()
    stream = io.BytesIO()
    np.save(stream, GREY)
    for number, damaged in enumerate((b"", b"junk", whole[:200], stream.getvalue())):
        path = tmp_path / f"{number}.npz"
        path.write_bytes(damaged)
        refused(path)


@pytest.mark.parametrize("images", [GREY, np.asfortranarray(GREY), COLOUR, GREY[:, None] / 255])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_rows(tmp_path: Path, save: Any, images: np.ndarray) -> None:
    save(tmp_path / "a.npz", images=images, labels=LABELS)
    opened = open_images(tmp_path / "a.npz")
    part, whole = opened.subset([3, 1]), opened.load()
    assert torch.equal(part.images, whole.images[[3, 1]])
    assert part.labels.tolist() == [LABELS[3], LABELS[1]]
    if images.shape[-1] == 3:
        assert_colour(whole)
    else:
        assert_grey(whole, ("0", "1", "2"))


def test_npz_pixels_are_checked_when_they_are_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.stack([GREY[0] / 255, GREY[1] / 1.0]), labels=[0, 1])
    images = open_images(tmp_path / "a.npz")
    assert torch.equal(images.subset([0]).images[0, 0], torch.from_numpy(GREY[0]))
    with pytest.raises(DataError, match="divide"):
        images.subset([1])


@pytest.mark.parametrize("labels", [[0, 1], [0, 1, 2, 0, 1]])
def test_npz_is_refused_when_opened(tmp_path: Path, labels: list[int]) -> None:
    np.savez(tmp_path / "a.npz", images=GREY, labels=labels)
    with pytest.raises(DataError, match=f"4 images and {len(labels)} labels"):
        open_images(tmp_path / "a.npz")


def test_npz_header_that_lies(tmp_path: Path) -> None:
    """It claims images far larger than the file; only the rows asked for are read, and they come short."""
    np.savez(tmp_path / "a.npz", images=GREY, labels=LABELS)
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    header = members["images.npy"]
    members["images.npy"] = header.replace(b"(4, 5, 6), }" + b" " * 12, b"(4, 500000, 600000), }" + b" " * 2)
    assert members["images.npy"] != header
    assert len(members["images.npy"]) == len(header)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(DataError, match="can't read"):
        open_images(tmp_path / "a.npz").subset([1])
