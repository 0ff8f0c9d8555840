"""Which class is which: a wrong order would make every verdict name another class."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from image_files import GREY, png, refused, write_parquet

from fedmend.data import load_images, open_images, read_class_names
from fedmend.errors import DataError


def folders(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).mkdir(parents=True)
        (root / name / "0.png").write_bytes(png(GREY[0]))
    return root


def arrays(path: Path, labels: object, **more: object) -> Path:
    np.savez(path, images=np.zeros((len(labels), 2, 2), np.uint8), labels=labels, **more)
    return path


def names_and_labels(path: Path, classes: tuple[str, ...] | None = None) -> tuple[tuple[str, ...], list[int]]:
    images = open_images(path, classes=classes)
    return images.class_names, images.labels.tolist()


def test_folders_with_numbers_are_in_the_order_of_the_numbers(tmp_path: Path) -> None:
    numbers = tuple(str(number) for number in range(12))
    assert names_and_labels(folders(tmp_path / "a", *numbers)) == (numbers, list(range(12)))
    mixed = ("1", "10", "2", "x")
    assert names_and_labels(folders(tmp_path / "b", *mixed)) == (mixed, [0, 1, 2, 3])
    assert names_and_labels(folders(tmp_path / "c", "007", "10", "9"))[0] == ("007", "9", "10")


def test_a_list_of_classes_gives_the_order(tmp_path: Path) -> None:
    """As a model was trained whose folders were sorted as text; a class may have no images."""
    folders(tmp_path / "a", "0", "1", "10", "2")
    order = ("0", "1", "10", "11", "2")
    assert names_and_labels(tmp_path / "a", order) == (order, [0, 1, 4, 2])
    with pytest.raises(DataError, match="images of '2', '10', which the list of classes lacks"):
        open_images(tmp_path / "a", classes=("0", "1"))


def test_class_folders_without_images_need_not_be_listed(tmp_path: Path) -> None:
    (folders(tmp_path, "cat", "dog") / "empty").mkdir()
    assert names_and_labels(tmp_path)[0] == ("cat", "dog", "empty")
    assert names_and_labels(tmp_path, ("dog", "cat")) == (("dog", "cat"), [1, 0])


@pytest.mark.parametrize("kind", ["U", "S"])
def test_labels_may_be_texts(tmp_path: Path, kind: str) -> None:
    texts = (
        np.array(["dog", "cat", "dog", "élk"])
        if kind == "U"
        else np.array([b"dog", b"cat", b"dog", "élk".encode()])
    )
    expected = ("cat", "dog", "élk"), [1, 0, 1, 2]
    assert names_and_labels(arrays(tmp_path / "a.npz", texts)) == expected
    order = ("dog", "fox", "élk", "cat")
    assert names_and_labels(arrays(tmp_path / "b.npz", texts, class_names=order)) == (order, [0, 3, 0, 2])
    assert names_and_labels(tmp_path / "a.npz", order) == (order, [0, 3, 0, 2])


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
@pytest.mark.parametrize("texts", [("dog", "cat", "dog"), ("10", "9", "10")])
def test_texts_in_parquet(tmp_path: Path, kind: pa.DataType, texts: tuple[str, ...]) -> None:
    labels = pa.array(texts).cast(kind)
    path = write_parquet(tmp_path / "p.parquet", image=[png(GREY[0])] * 3, label=labels)
    assert names_and_labels(path) == ((texts[1], texts[0]), [1, 0, 1])
    assert names_and_labels(path, texts[:2]) == (texts[:2], [0, 1, 0])


def test_labels_may_count_from_1(tmp_path: Path) -> None:
    path = arrays(tmp_path / "a.npz", [1, 3, 2, 3])
    assert names_and_labels(path) == (("1", "2", "3"), [0, 2, 1, 2])
    assert names_and_labels(path, ("a", "b", "c")) == (("a", "b", "c"), [0, 2, 1, 2])
    named = arrays(tmp_path / "b.npz", [1, 3, 3], class_names=["a", "b", "c"])
    assert names_and_labels(named) == (("a", "b", "c"), [0, 2, 2])


def test_they_count_from_0_where_a_class_has_no_images(tmp_path: Path) -> None:
    path = arrays(tmp_path / "a.npz", [1, 3, 2, 3])
    four = ("a", "b", "c", "d")
    assert names_and_labels(path, four) == (four, [1, 3, 2, 3])
    assert names_and_labels(arrays(tmp_path / "b.npz", [1, 3, 3])) == (("0", "1", "2", "3"), [1, 3, 3])
    assert names_and_labels(arrays(tmp_path / "c.npz", [1, 1]))[0] == ("0", "1")
    with pytest.raises(DataError, match="2 class names"):
        open_images(path, classes=("a", "b"))


def test_named_numbers_are_matched_by_name(tmp_path: Path) -> None:
    path = arrays(tmp_path / "a.npz", [0, 1, 2], class_names=["a", "b", "c"])
    assert names_and_labels(path, ("c", "a", "x", "b")) == (("c", "a", "x", "b"), [1, 3, 0])


def test_a_list_of_classes_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_bytes("\ufeffcat \r\n\r\n  Stopp – 30\r\n".encode() + b"caf\xe9\n")
    assert read_class_names(path) == ("cat", "Stopp – 30", os.fsdecode(b"caf\xe9"))
    assert names_and_labels(folders(tmp_path / "a", os.fsdecode(b"caf\xe9")), read_class_names(path))[1] == [
        2
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [("", "must name 1 to"), ("a\nb\na\n", "names the class 'a' twice"), ("x" * 1001, "1,001 characters")],
)
def test_lists_that_can_not_be_used(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "c.txt").write_text(text)
    with pytest.raises(DataError, match=told):
        read_class_names(tmp_path / "c.txt")
    with pytest.raises(DataError, match="can't read"):
        read_class_names(tmp_path / "missing.txt")


@pytest.mark.parametrize("classes", ["ab", [1, 2], []])
def test_classes_in_python_are_checked(classes: object) -> None:
    with pytest.raises(DataError, match=r"class names of|must name 1"):
        load_images("fashion-mnist-sample", classes=classes)


def test_names_that_nobody_could_read(tmp_path: Path) -> None:
    refused(arrays(tmp_path / "a.npz", [0, 0], class_names=["x" * 1001]), match="1,001 characters")
    refused(arrays(tmp_path / "b.npz", ["x" * 1001, "y"]), match="1,001 characters")
    encoded = [png(GREY[0])] * 2
    refused(write_parquet(tmp_path / "p.parquet", image=encoded, label=["x" * 1001, "y"]), match="1,001 char")
