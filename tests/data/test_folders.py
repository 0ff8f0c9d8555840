from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from image_files import COLOUR, GREY, png, refused

from fedmend.data import load_images, open_images
from fedmend.errors import DataError


def write_folder(root: Path, **classes: list[np.ndarray]) -> Path:
    for name, arrays in classes.items():
        (root / name).mkdir(parents=True)
        for number, array in enumerate(arrays):
            (root / name / f"{number}.png").write_bytes(png(array))
    return root


def test_folder(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "mine", dog=[COLOUR[1], COLOUR[2]], cat=[COLOUR[0]], none=[])
    (root / "dog" / "0.png").rename(root / "dog" / "0.PNG")
    (root / "dog" / "notes.txt").write_text("not an image")
    (root / "dog" / ".hidden.png").write_text("not an image")
    (root / ".git").mkdir()
    images = load_images(root)
    assert images.class_names == ("cat", "dog", "none")
    assert images.labels.tolist() == [0, 1, 1]
    assert torch.equal(images.images, torch.from_numpy(COLOUR[:3]).permute(0, 3, 1, 2))


def test_folder_with_splits(tmp_path: Path) -> None:
    write_folder(tmp_path / "train", cat=[GREY[0]], dog=[GREY[1]])
    write_folder(tmp_path / "test", cat=[GREY[2]], dog=[GREY[3]])
    assert torch.equal(load_images(tmp_path, "train").images[:, 0], torch.from_numpy(GREY[:2]))
    assert torch.equal(load_images(tmp_path).images[:, 0], torch.from_numpy(GREY[2:]))
    assert len(load_images(tmp_path / "train")) == 2
    refused(tmp_path, "valid", match="it has test, train")


def test_folders_that_can_not_be_used(tmp_path: Path) -> None:
    refused(write_folder(tmp_path / "a", cat=[]), match="no images found")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", match="no images found")
    odd = write_folder(tmp_path / "b", cat=[GREY[0]], dog=[GREY[1, 1:]])
    refused(odd, match=r"dog.0\.png is 6x4 pixels, .*cat.0\.png is 6x5")
    (odd / "dog" / "0.png").write_bytes(png(GREY[0])[:50])
    refused(odd, match=r"can't read .*dog.0\.png")


def test_only_the_needed_files_are_decoded(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "mine", cat=[GREY[0], GREY[1]], dog=[GREY[2]])
    (root / "cat" / "0.png").write_bytes(b"junk")
    images = open_images(root)
    part = images.subset([2, 1])
    assert torch.equal(part.images[:, 0], torch.from_numpy(GREY[[2, 1]]))
    assert part.labels.tolist() == [1, 0]
    with pytest.raises(DataError, match=r"can't read .*cat.0\.png"):
        images.subset([0])
