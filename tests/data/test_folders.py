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


@pytest.mark.parametrize(
    "stray", ["cat/@eaDir", "__MACOSX/cat", "__pycache__", "cat/.thumbs", "dog/__MACOSX", "lost+found"]
)
def test_folders_that_systems_leave_behind_are_passed_over(tmp_path: Path, stray: str) -> None:
    write_folder(tmp_path, cat=[GREY[0]], dog=[GREY[1]])
    (tmp_path / stray).mkdir(parents=True)
    (tmp_path / stray / "0.png").write_bytes(png(GREY[2]))
    images = load_images(tmp_path)
    assert images.class_names == ("cat", "dog")
    assert torch.equal(images.images[:, 0], torch.from_numpy(GREY[:2]))


def test_images_may_lie_deeper_in_a_class_folder(tmp_path: Path) -> None:
    write_folder(tmp_path / "a", **{"cat/images": [GREY[0], GREY[1]], "dog/images": [GREY[2]]})
    write_folder(tmp_path / "b", **{"cat": [GREY[0]], "cat/more": [GREY[1]], "dog/more": [GREY[2]]})
    write_folder(tmp_path / "c" / "test", **{"cat/images": [GREY[0], GREY[1]], "dog/images": [GREY[2]]})
    for root in ("a", "b", "c"):
        images = load_images(tmp_path / root)
        assert images.class_names == ("cat", "dog")
        assert images.labels.tolist() == [0, 0, 1]
        assert torch.equal(images.images[:, 0], torch.from_numpy(GREY[:3]))


def test_splits_are_never_taken_for_classes(tmp_path: Path) -> None:
    write_folder(tmp_path / "a", **{"train/cat": [GREY[0]], "val/cat": [GREY[1]]})
    refused(tmp_path / "a", match="has no split 'test'; it has train, val")
    write_folder(tmp_path / "b", **{"fold1/cat": [GREY[0]], "fold1/dog": [GREY[0]], "fold2/cat": [GREY[1]]})
    refused(tmp_path / "b", match="it has fold1, fold2")
    assert load_images(tmp_path / "b", "fold1").class_names == ("cat", "dog")
    write_folder(tmp_path / "a", samples=[GREY[0]])
    refused(tmp_path / "a", match="it has train, val")


def test_a_link_in_a_circle_is_not_followed(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "mine", cat=[GREY[0]])
    (root / "cat" / "again").symlink_to(root)
    assert len(load_images(root)) == 1
