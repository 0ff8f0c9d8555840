import torch

from fedmend.data.same_images import among
from fedmend.pixels import to_float


def test_images_are_the_same_by_their_pixels_whatever_their_type() -> None:
    images = torch.arange(24, dtype=torch.uint8).reshape(6, 1, 2, 2)
    others = to_float(images[[4, 1]])
    assert among(images, others).tolist() == [False, True, False, False, True, False]
    assert among(to_float(images), images[:1]).tolist() == [True] + 5 * [False]
    assert not among(images, images[:0]).any()
