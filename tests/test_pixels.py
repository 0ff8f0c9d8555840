import torch

from fedmend.pixels import to_float, to_uint8


def test_bytes_become_floats_in_the_unit_range() -> None:
    pixels = to_float(torch.tensor([0, 51, 255], dtype=torch.uint8))
    assert pixels.dtype == torch.float32
    assert torch.allclose(pixels, torch.tensor([0.0, 0.2, 1.0]))


def test_every_byte_survives_the_way_there_and_back() -> None:
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_float(every)), every)


def test_arguments_are_left_as_found() -> None:
    stored, floats = torch.tensor([7], dtype=torch.uint8), torch.tensor([0.25])
    to_float(stored)
    to_uint8(floats)
    assert stored.item() == 7
    assert floats.item() == 0.25


def test_floats_stay_what_they_are() -> None:
    floats = torch.rand(3, dtype=torch.float64)
    assert to_float(floats) is floats


def test_floats_go_to_the_nearest_byte_and_no_further() -> None:
    floats = torch.tensor([0.4 / 255, 0.6 / 255, 1.0 + 1e-6, -0.1, 2.0])
    assert to_uint8(floats).tolist() == [0, 1, 255, 0, 255]
