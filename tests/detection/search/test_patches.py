import math

import pytest
import torch
from torch import Tensor

from fedmend.detection.search.patches import Patches
from fedmend.errors import ModelError
from fedmend.seeds import generator


def test_masks_are_scaled_to_the_limit_by_hand() -> None:
    logits = torch.tensor([[[[0.0, math.log(3)]]], [[[-99.0, math.log(1 / 3)]]], [[[-999.0, -999.0]]]])
    colours = torch.tensor([[[0.0, 99.0]], [[-99.0, math.log(3)]]])
    patches = Patches(logits, colours.expand(3, 2, 1, 2))
    for limit, first in ((None, [0.5, 0.75]), (1.25, [0.5, 0.75]), (0.625, [0.25, 0.375])):
        expected = [first, [0.0, 0.25], [0.0, 0.0]]
        masks, patterns = patches(limit)
        assert torch.allclose(masks, torch.tensor(expected)[:, None, None])
        assert torch.allclose(patterns, torch.tensor([[[0.5, 1.0]], [[0.0, 0.75]]]).expand(3, 2, 1, 2))
    assert torch.allclose(patches(0.125)[0].flatten(1).sum(1), torch.tensor([0.125, 0.125, 0.0]))


@pytest.mark.parametrize(("limit", "penalty"), [(None, 0.0), (None, 0.01), (1.0, 0.0), (3.5, 0.25)])
def test_steps_are_those_of_torchs_autograd_and_adam(limit: float | None, penalty: float) -> None:
    """Of two patches, with gradients about 1 and about as small as Adam's epsilon, masks within the limit and not."""
    numbers = generator(0)
    masks = (
        torch.randn(2, 1, 3, 3, generator=numbers, dtype=torch.float64)
        + torch.tensor([0.0, -3])[:, None, None, None]
    )
    patterns = torch.randn(2, 2, 3, 3, generator=numbers, dtype=torch.float64)
    parts = [part.clone().requires_grad_() for part in (masks, patterns)]
    optimizer = torch.optim.Adam(parts, 0.3, betas=(0.5, 0.9))
    patches = Patches(masks, patterns)
    if limit == 1.0:
        sums = patches()[0].sum((1, 2, 3))
        assert sums[1] < limit < sums[0]

    def loss(images: Tensor, goal: int) -> Tensor:
        return torch.tensor([1.0, 1e-8]) * (images - goal).square().sum((1, 2, 3, 4))

    for step in range(20):
        images = torch.rand(2, 4, 2, 3, 3, generator=numbers, dtype=torch.float64)
        mask, pattern = (part.sigmoid() for part in parts)
        if limit is not None:
            mask = mask * (limit / mask.sum((1, 2, 3), keepdim=True)).clamp_max(1)
        by_hand = mask[:, None] * pattern[:, None] + (1 - mask[:, None]) * images
        expected = loss(by_hand, step % 3) + penalty * mask.sum((1, 2, 3))
        optimizer.zero_grad()
        expected.sum().backward()
        optimizer.step()
        measured = patches.descend(images, lambda each, goal=step % 3: loss(each, goal), 0.3, limit, penalty)
        assert not measured.requires_grad
        assert torch.allclose(measured, expected)
        for each, part in zip(patches(), parts, strict=True):
            assert torch.allclose(each, part.sigmoid())


def test_one_of_several_patches_goes_on_from_where_it_is_with_a_new_adam() -> None:
    """Whose first step is ``lr`` long, whatever came before."""
    images = torch.zeros(2, 1, 1, 1, 1)
    patches = Patches(torch.zeros(2, 1, 1, 1), torch.zeros(2, 1, 1, 1))
    for sign in (1, 1, -1):
        patches.descend(images, lambda each, sign=sign: sign * each.sum((1, 2, 3, 4)), 0.1)
    one = patches.only([1])
    before = [each.logit() for each in one()]
    assert before == [each[1].logit() for each in patches()]
    one.descend(images[:1], lambda each: each.sum((1, 2, 3, 4)), 0.1)
    for now, then in zip(one(), before, strict=True):
        assert torch.allclose(now.logit(), then - 0.1, atol=1e-5)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_an_error(loss: float) -> None:
    patches = Patches(torch.zeros(2, 1, 1, 1), torch.zeros(2, 1, 1, 1))
    with pytest.raises(ModelError, match="finite logits"):
        patches.descend(
            torch.zeros(2, 1, 1, 1, 1), lambda each: each.sum((1, 2, 3, 4)) + torch.tensor([0.0, loss]), 0.1
        )


def test_masks_that_are_nothing_stay_numbers() -> None:
    patches = Patches(torch.full((1, 1, 2, 2), -999.0), torch.zeros(1, 1, 2, 2))
    patches.descend(torch.zeros(1, 1, 1, 2, 2), lambda each: each.sum((1, 2, 3, 4)), 0.1, limit=0.5)
    assert all(bool(each.isfinite().all()) for each in patches())


def test_images_that_need_gradients_are_no_part_of_it() -> None:
    patches = Patches(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2))
    images = torch.zeros(1, 1, 1, 2, 2, requires_grad=True)
    assert not patches.descend(images, lambda each: each.sum((1, 2, 3, 4)), 0.1, limit=0.5).requires_grad
    assert not any(each.requires_grad for each in patches())


def test_a_regulariser_and_a_penalty_for_each_patch_are_part_of_the_loss() -> None:
    """As by torch's autograd, and of each patch apart."""
    masks, patterns = (torch.randn(2, channels, 3, 3, generator=generator(channels)) for channels in (1, 2))
    images, weights = torch.rand(2, 4, 2, 3, 3, generator=generator(0)), torch.tensor([0.5, 3.0])
    parts = [part.clone().requires_grad_() for part in (masks, patterns)]
    optimizer = torch.optim.Adam(parts, 0.3, betas=(0.5, 0.9))
    patches = Patches(masks, patterns)

    def regulariser(masks: Tensor, patterns: Tensor) -> Tensor:
        return (masks * patterns).square().sum((1, 2, 3)) + patterns.sum((1, 2, 3))

    for _ in range(5):
        mask, pattern = (part.sigmoid() for part in parts)
        stamped = mask[:, None] * pattern[:, None] + (1 - mask[:, None]) * images
        expected = (
            stamped.square().sum((1, 2, 3, 4)) + weights * mask.sum((1, 2, 3)) + regulariser(mask, pattern)
        )
        optimizer.zero_grad()
        expected.sum().backward()
        optimizer.step()
        measured = patches.descend(
            images,
            lambda each: each.square().sum((1, 2, 3, 4)),
            0.3,
            penalty=weights.view(-1, 1, 1, 1),
            regulariser=regulariser,
        )
        assert torch.allclose(measured, expected)
        for each, part in zip(patches(), parts, strict=True):
            assert torch.allclose(each, part.sigmoid(), atol=1e-6)


def test_patches_that_are_kept_go_on_as_if_nothing_had_happened() -> None:
    masks, patterns = (torch.randn(3, channels, 3, 3, generator=generator(channels)) for channels in (1, 2))
    images = torch.rand(3, 4, 2, 3, 3, generator=generator(0))
    whole, some = Patches(masks, patterns), Patches(masks, patterns)
    chosen = torch.tensor([True, False, True])

    def loss(stamped: Tensor) -> Tensor:
        return stamped.square().sum((1, 2, 3, 4))

    for patches in (whole, some):
        patches.descend(images, loss, 0.3)
    some.keep(chosen)
    assert len(some) == 2
    for _ in range(3):
        whole.descend(images, loss, 0.3)
        some.descend(images[chosen], loss, 0.3)
    for every, each in zip(whole(), some(), strict=True):
        assert torch.equal(every[chosen], each)
