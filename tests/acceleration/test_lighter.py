import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fedmend.acceleration import lighter
from fedmend.models import convnet, resnet18
from small_nets import IMAGES, Body, assert_alike, convolutions, norms, packed_ones, settled

pytestmark = pytest.mark.usefixtures("one_thread")


class Undecided(Body):
    """Its way depends on the images, which torch.fx can't follow."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images if images.sum() > 0 else -images)


class Moody(Body):
    """A number drawn at each call."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + random.random()


class Twice(Body):
    """One convolution, with and without BatchNorm behind it; folded, it would be another one without."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + self.body[0](images).mean((2, 3))


class Viewed(Body):
    """As many write it: it needs images in the usual layout."""

    def forward(self, images: Tensor) -> Tensor:
        between = self.body(images)
        return between.view(between.size(0), -1)


class Uncopied(Body):
    def __deepcopy__(self, memo: object) -> nn.Module:
        raise RuntimeError("one is enough")


@pytest.mark.parametrize(
    ("make", "batch_norms", "packed"),
    [
        (lambda: resnet18(width=4), 0, 20),
        (lambda: convnet(in_channels=3), 0, 4),
        (Body, 0, 1),
        (Undecided, 1, 1),
        (Twice, 1, 1),
        (Viewed, 0, 1),
        (Moody, 1, 0),
    ],
)
def test_as_much_is_made_lighter_as_gives_the_same_answers(
    make: Callable[[], nn.Module], batch_norms: int, packed: int
) -> None:
    model = settled(make()).requires_grad_(False)
    before = convolutions(model)
    found = lighter(model, IMAGES)
    assert (norms(found), packed_ones(found)) == (batch_norms, packed)
    assert (convolutions(model), packed_ones(model)) == (before, 0)
    if isinstance(model, Moody):
        assert found is model
    else:
        assert_alike(model, found, IMAGES)


def test_what_cannot_be_copied_is_folded_alone() -> None:
    found = lighter(settled(Uncopied()).requires_grad_(False), IMAGES)
    assert norms(found) == 0
    plain = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4)).eval()
    assert lighter(plain, IMAGES) is plain


def test_eight_images_are_asked() -> None:
    asked = []
    model = settled(Body())
    model.register_forward_pre_hook(lambda _model, inputs: asked.append(inputs[0]))
    lighter(model, IMAGES)
    assert torch.equal(asked[0], IMAGES[:8])
