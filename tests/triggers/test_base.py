import pytest
import torch
from torch import Tensor

from fedmend.errors import ConfigError
from fedmend.triggers import Atoms, Box, Divisible, Pixels, stamp, stamp_stored


class Darker:
    def apply(self, images: Tensor) -> Tensor:
        return images * 0.5


class OfPairs:
    def apply(self, images: Tensor) -> Tensor:
        return images.clone() if len(images) == 2 else images[:1]


def test_a_users_own_trigger_is_checked_on_every_batch() -> None:
    images = torch.rand(3, 1, 4, 4)
    assert torch.equal(stamp(OfPairs(), images[:2]), images[:2])
    told = r"the trigger OfPairs must .* apply returned torch.float32 \(1, 1, 4, 4\) for torch.float32 \(3, 1, 4, 4\)"
    with pytest.raises(ConfigError, match=told):
        stamp(OfPairs(), images)


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
