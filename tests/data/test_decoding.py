"""Images of every mode become what people see, as Pillow and torchvision read them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from image_files import COLOUR, GREY, png, refused, write_parquet
from PIL import Image

from fedmend.data import load_images, open_images
from fedmend.errors import DataError

SHADES = GREY[0] * 8
COLOURS = np.random.default_rng(0).integers(0, 256, (5, 6, 3)).astype(np.uint8)


def read(image: Image.Image, path: Path, kind: str = "PNG", **options: object) -> torch.Tensor:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return load_images(write_parquet(path / "p.parquet", image=[stream.getvalue()], label=[0])).images[0]


@pytest.mark.parametrize("mode", ["LA", "P"])
def test_grey_in_other_modes_is_grey(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(SHADES).convert(mode)
    assert torch.equal(read(image, tmp_path), torch.from_numpy(SHADES)[None])


@pytest.mark.parametrize("kind", ["BMP", "PNG"])
def test_a_palette_of_colours_is_rgb(tmp_path: Path, kind: str) -> None:
    image = Image.fromarray(COLOURS).quantize(256)
    expected = np.array(image.convert("RGB"))
    assert len(np.unique(expected.reshape(-1, 3), axis=0)) == 30
    assert torch.equal(read(image, tmp_path, kind), torch.from_numpy(expected).permute(2, 0, 1))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_transparency_is_dropped_not_blended(tmp_path: Path, kind: str) -> None:
    transparent = np.concatenate([COLOURS, np.full((5, 6, 1), 40, np.uint8)], 2)
    found = read(
        Image.fromarray(transparent), tmp_path, kind, **({"lossless": True} if kind == "WEBP" else {})
    )
    assert torch.equal(found, torch.from_numpy(COLOURS).permute(2, 0, 1))


def test_16_bits_become_8(tmp_path: Path) -> None:
    deep = SHADES.astype(np.uint16) * 257
    assert torch.equal(read(Image.fromarray(deep), tmp_path), torch.from_numpy(SHADES)[None])
    dark = Image.fromarray(np.full((5, 6), 255, np.uint16))
    assert int(read(dark, tmp_path).max()) == 0


def test_cmyk(tmp_path: Path) -> None:
    """Full cyan, no ink, and full black, in blocks that JPEG keeps."""
    ink = np.zeros((8, 24, 4), np.uint8)
    ink[:, :8, 0] = ink[:, 16:, 3] = 255
    found = read(Image.fromarray(ink, "CMYK"), tmp_path, "JPEG", quality=100)
    for block, shown in enumerate([(0, 255, 255), (255, 255, 255), (0, 0, 0)]):
        assert (found[:, 4, 8 * block + 4].int() - torch.tensor(shown)).abs().max() < 8


@pytest.mark.parametrize(
    ("orientation", "turns", "mirrored"), [(1, 0, False), (3, 2, False), (6, 3, False), (2, 0, True)]
)
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_images_are_turned_as_exif_says(
    tmp_path: Path, kind: str, orientation: int, turns: int, mirrored: bool
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    blocks = np.kron(np.array([[0, 90, 180], [255, 40, 130]], np.uint8), np.ones((16, 16), np.uint8))
    found = read(Image.fromarray(blocks), tmp_path, kind, exif=exif)
    expected = np.rot90(blocks[:, ::-1] if mirrored else blocks, turns)
    assert found.shape == (1, *expected.shape)
    assert (found[0].int() - torch.from_numpy(expected.astype(np.int32))).abs().max() < 6


def test_sizes_that_differ_are_scaled_on_request(tmp_path: Path) -> None:
    """As torchvision's Resize does it: Pillow's bilinear filter, which averages when it shrinks."""
    sizes = [(40, 40), (8, 20), (10, 10)]
    arrays = [np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8) for size in sizes]
    path = write_parquet(tmp_path / "p.parquet", image=[png(each) for each in arrays], label=[0, 0, 0])
    assert "--resize HxW" in refused(path, match="20x8 pixels, .* is 40x40")
    images = load_images(path, resize=(10, 10)).images
    assert images.shape == (3, 3, 10, 10)
    assert torch.equal(images[2], torch.from_numpy(arrays[2]).permute(2, 0, 1))
    pixels = torch.from_numpy(arrays[0]).permute(2, 0, 1)[None].float()
    scaled = torch.nn.functional.interpolate(pixels, (10, 10), mode="bilinear", antialias=True)[0]
    assert (images[0].float() - scaled).abs().max() <= 1


@pytest.mark.parametrize("arrays", [GREY, COLOUR])
def test_arrays_are_scaled_like_files(tmp_path: Path, arrays: np.ndarray) -> None:
    np.savez(tmp_path / "a.npz", images=arrays, labels=[0] * 4)
    files = write_parquet(tmp_path / "p.parquet", image=[png(each) for each in arrays], label=[0] * 4)
    for size in ((3, 9), (12, 4)):
        opened = open_images(tmp_path / "a.npz", resize=size)
        assert torch.equal(opened.subset([1, 3]).images, load_images(files, resize=size).images[[1, 3]])


@pytest.mark.parametrize("resize", [0, (0, 4), (4,), (4, 4.0), (10**6, 1), "44"])
def test_other_sizes_are_refused(resize: object) -> None:
    with pytest.raises(DataError, match=r"resize must be \(H, W\)"):
        load_images("fashion-mnist-sample", resize=resize)
