import torch
from torch import Tensor

from fedmend.triggers import Atoms, Box, Divisible, Pixels, stamp_stored


class Darker:
    def apply(self, images: Tensor) -> Tensor:
        return images * 0.5


def test_stored_images_are_stamped_as_floats_and_rounded_to_bytes() -> None:
    images = torch.tensor([0, 1, 2, 100, 255], dtype=torch.uint8).view(5, 1, 1, 1)
    stamped = stamp_stored(Darker(), images)
    assert stamped.dtype == torch.uint8
    assert stamped.flatten().tolist() == [0, 0, 1, 50, 128]
    assert images.flatten().tolist() == [0, 1, 2, 100, 255]


def test_only_what_has_parts_is_divisible() -> None:
    shape = (1, 28, 28)
    assert isinstance(Atoms("+", shape), Divisible)
    assert not any(isinstance(each, Divisible) for each in (Pixels("9px", shape), Box(shape), Darker()))
