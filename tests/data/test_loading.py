from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from fedmend.data import ImageSet, load_images
from fedmend.errors import DataError

GREY = np.arange(4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6)
COLOUR = np.arange(4 * 5 * 6 * 3, dtype=np.int64).reshape(4, 5, 6, 3).astype(np.uint8)
LABELS = [0, 2, 1, 2]


def png(array: np.ndarray, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, kind)
    return stream.getvalue()


def write_parquet(path: Path, **columns: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def hub_dataset(arrays: np.ndarray = GREY, label: str = "label") -> datasets.Dataset:
    features = datasets.Features(
        {"img": datasets.Image(), label: datasets.ClassLabel(names=["cat", "dog", "elk"])}
    )
    rows = {"img": [{"bytes": png(array), "path": None} for array in arrays], label: LABELS}
    return datasets.Dataset.from_dict(rows, features=features)


def refused(source: Any, split: str = "test", match: str = "expected") -> str:
    with pytest.raises(DataError, match=match) as caught:
        load_images(source, split)
    message = str(caught.value)
    assert "\n" not in message
    return message


def assert_grey(images: ImageSet, names: tuple[str, ...]) -> None:
    assert torch.equal(images.images, torch.from_numpy(GREY)[:, None])
    assert images.labels.tolist() == LABELS
    assert images.class_names == names


def assert_colour(images: ImageSet) -> None:
    assert torch.equal(images.images, torch.from_numpy(COLOUR).permute(0, 3, 1, 2))


# The shipped sample


@pytest.mark.parametrize(("split", "each"), [("train", 1200), ("test", 200)])
def test_sample(split: str, each: int) -> None:
    images = load_images("Fashion_MNIST-sample", split)
    assert images.images.shape == (10 * each, 1, 28, 28)
    assert torch.bincount(images.labels).tolist() == [each] * 10
    assert images.class_names[9] == "Ankle boot"


def test_sample_has_two_splits() -> None:
    refused("fashion-mnist-sample", "validation", match="choose train or test")


# Parquet


def test_parquet_as_datasets_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "some.parquet"
    hub_dataset().to_parquet(path)
    assert_grey(load_images(path, "whatever"), ("cat", "dog", "elk"))
    assert_grey(load_images(str(path)), ("cat", "dog", "elk"))


def test_plain_parquet(tmp_path: Path) -> None:
    path = write_parquet(
        tmp_path / "p.parquet", photo=[png(a) for a in COLOUR], kind=pa.array(LABELS, pa.int8())
    )
    images = load_images(path)
    assert_colour(images)
    assert images.class_names == ("0", "1", "2")


def test_preferred_columns(tmp_path: Path) -> None:
    encoded = [png(array) for array in GREY]
    path = write_parquet(
        tmp_path / "p.parquet", thumb=encoded[::-1], image=encoded, coarse_label=[0] * 4, fine_label=LABELS
    )
    assert_grey(load_images(path), ("0", "1", "2"))


def test_mixed_modes_become_colour(tmp_path: Path) -> None:
    encoded = [png(GREY[0]), png(COLOUR[1])]
    images = load_images(write_parquet(tmp_path / "p.parquet", image=encoded, label=[0, 1]))
    assert torch.equal(images.images[0], torch.from_numpy(GREY[0]).expand(3, 5, 6))
    assert torch.equal(images.images[1], torch.from_numpy(COLOUR[1]).permute(2, 0, 1))


def test_one_bit_images_are_grey(tmp_path: Path) -> None:
    images = load_images(write_parquet(tmp_path / "p.parquet", image=[png(GREY[0] > 7)], label=[0]))
    assert torch.equal(images.images[0, 0], torch.from_numpy((GREY[0] > 7) * np.uint8(255)))


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"label": [0]}, "column of encoded images"),
        ({"image": [png(GREY[0])]}, "column of integer labels"),
        ({"image": [png(GREY[0])], "label": ["cat"]}, "column of integer labels"),
        ({"image": [png(GREY[0])], "label": [0.0]}, "column of integer labels"),
        ({"image": [png(GREY[0])], "a": [0], "b": [0]}, "column of integer labels"),
        ({"a": [png(GREY[0])], "b": [png(GREY[0])], "label": [0]}, "column of encoded images"),
        ({"image": [png(GREY[0])], "label": [-1]}, "from -1"),
        ({"image": [png(GREY[0])], "label": [10**12]}, "100000"),
        ({"image": [png(GREY[0])], "label": pa.array([None], pa.int64())}, "without a label"),
        ({"image": [png(GREY[0]), None], "label": [0, 0]}, "row 1 .* no image bytes"),
        ({"image": [png(GREY[0]), png(GREY[0])[:-30]], "label": [0, 0]}, "can't read row 1"),
        ({"image": [b"junk"], "label": [0]}, "can't read row 0"),
        ({"image": [b""], "label": [0]}, "can't read row 0"),
        (
            {"image": [png(GREY[0]), png(GREY[0, 1:])], "label": [0, 0]},
            "row 1 .* is 6x4 pixels, row 0 .* is 6x5",
        ),
        ({"image": [png(GREY[0].astype(np.uint16))], "label": [0]}, "8 bits"),
        ({"image": [png(COLOUR[0], "GIF")], "label": [0]}, "PNG, JPEG, BMP or WebP"),
        ({"image": pa.array([], pa.binary()), "label": pa.array([], pa.int64())}, "no rows"),
        (
            {
                "image": [{"bytes": None, "path": "/etc/hostname"}, {"bytes": b"", "path": ""}],
                "label": [0, 0],
            },
            "row 0",
        ),
    ],
)
def test_parquet_that_can_not_be_used(tmp_path: Path, columns: dict[str, Any], told: str) -> None:
    refused(write_parquet(tmp_path / "p.parquet", **columns), match=told)


def test_names_that_do_not_fit_the_labels(tmp_path: Path) -> None:
    meta = '{"info": {"features": {"label": {"names": ["only"], "_type": "ClassLabel"}}}}'
    table = pa.table({"image": [png(a) for a in GREY], "label": LABELS})
    pq.write_table(table.replace_schema_metadata({"huggingface": meta}), tmp_path / "p.parquet")
    refused(tmp_path / "p.parquet", match="1 class names")
    pq.write_table(table.replace_schema_metadata({"huggingface": "{[]"}), tmp_path / "q.parquet")
    assert_grey(load_images(tmp_path / "q.parquet"), ("0", "1", "2"))


def test_damaged_parquet(tmp_path: Path) -> None:
    whole = write_parquet(tmp_path / "p.parquet", image=[png(a) for a in GREY], label=LABELS).read_bytes()
    for number, damaged in enumerate((b"", b"junk", whole[:-10], whole[:20] + bytes(200) + whole[220:])):
        path = tmp_path / f"{number}.parquet"
        path.write_bytes(damaged)
        refused(path, match="can't read")


# Array files


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
        ({"images": GREY, "labels": [[0], [1], [2], [2]]}, "integers of shape"),
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


# Folders


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


# Known names and the hub


def test_known_name_from_the_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDMEND_DATA", str(tmp_path))
    write_parquet(tmp_path / "fashion_mnist" / "test.parquet", image=[png(a) for a in GREY], label=LABELS)
    for name in ("fashion-mnist", "fashion_mnist", "Fashion-MNIST"):
        assert_grey(load_images(name), ("0", "1", "2"))
    refused("fashion-mnist", "train", match=r"FEDMEND_DATA is set but there is no .*train\.parquet")
    refused("fashion-mnist", "../x", match="choose train or test")


def test_known_name_from_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(name: str, split: str) -> datasets.Dataset:
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


# Nothing there


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
    refused(tmp_path / "a.csv", match="of a kind")
