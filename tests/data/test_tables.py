from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from image_files import COLOUR, GREY, LABELS, assert_colour, assert_grey, png, refused, write_parquet

from fedmend.data import load_images, open_images
from fedmend.data.tables import encoded_images
from fedmend.errors import DataError


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
        ({"image": [png(GREY[0])], "file": ["cat"]}, "column of integer labels"),
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


@pytest.mark.parametrize("struct", [False, True])
def test_only_the_needed_rows_are_decoded(tmp_path: Path, struct: bool) -> None:
    """The others may even be damaged; rows are counted across row groups."""
    encoded: list[Any] = [png(GREY[0]), b"junk", png(GREY[1]), None, png(GREY[2]), png(GREY[3])]
    if struct:
        encoded = [None if each is None else {"bytes": each, "path": "x"} for each in encoded]
    table = pa.table({"image": encoded, "label": [0, 0, 2, 1, 1, 2]})
    pq.write_table(table, tmp_path / "p.parquet", row_group_size=2)
    images = open_images(tmp_path / "p.parquet")
    assert images.labels.tolist() == [0, 0, 2, 1, 1, 2]
    part = images.subset([5, 0, 2, 4])
    assert torch.equal(part.images[:, 0], torch.from_numpy(GREY[[3, 0, 1, 2]]))
    assert part.labels.tolist() == [2, 0, 2, 1]
    for row, told in ((1, "can't read row 1 of"), (3, "row 3 of .* no image bytes")):
        with pytest.raises(DataError, match=told):
            images.subset([0, row])


def test_only_row_groups_with_needed_rows_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.table({"image": [png(GREY[0])] * 10, "label": [0] * 10})
    pq.write_table(table, tmp_path / "p.parquet", row_group_size=2)
    images = open_images(tmp_path / "p.parquet")
    read, original = [], pq.ParquetFile.iter_batches

    def counted(file: Any, size: int, row_groups: list[int], columns: list[str], **more: Any) -> Any:
        read.append((*row_groups, *columns))
        return original(file, size, row_groups, columns, **more)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", counted)
    images.subset([9, 2, 3])
    assert read == [(1, "image"), (4, "image")]
    read.clear()
    assert len(images.load()) == 10
    assert [group for group, _ in read] == [0, 1, 2, 3, 4]


def test_a_file_that_goes_away(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "p.parquet", image=[png(GREY[0])], label=[0])
    images = open_images(path)
    path.unlink()
    with pytest.raises(DataError, match="can't read"):
        images.subset([0])


@pytest.mark.parametrize("struct", [False, True])
def test_positions_are_counted_across_chunks(struct: bool) -> None:
    """The last chunk is a part of a longer array."""
    values: list[Any] = [b"a", b"b", b"c", b"x", b"d", b"e"]
    if struct:
        values = [{"path": None, "bytes": each} for each in values]
    array = pa.array(values)
    column = pa.chunked_array([array[:2], array[2:3], array[4:]])
    found = list(encoded_images(column.chunks, [1, 2, 4], [10, 20, 30], "of a table"))
    assert found == [("row 10 of a table", b"b"), ("row 20 of a table", b"c"), ("row 30 of a table", b"e")]
