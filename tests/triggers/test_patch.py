import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedmend.errors import DataError
from fedmend.triggers import Patch, union

HARD_AND_SOFT = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1, width=32))


def numbers(channels: int) -> st.SearchStrategy[Tensor]:
    values = st.lists(HARD_AND_SOFT, min_size=channels * 6, max_size=channels * 6)
    return values.map(lambda found: torch.tensor(found).view(channels, 2, 3))


TRIGGERS = st.builds(Patch, numbers(1), numbers(2))


def test_stamping_by_hand() -> None:
    mask = torch.tensor([[[1.0, 0.25]]])
    pattern = torch.tensor([[[0.2, 1.0]], [[0.4, 0.0]]])
    image = torch.tensor([[[[0.9, 0.2]], [[0.9, 0.4]]]])
    expected = torch.tensor([[[[0.2, 0.4]], [[0.4, 0.3]]]])
    assert torch.allclose(Patch(mask, pattern).apply(image), expected)


def test_stamping_leaves_images_and_trigger_alone() -> None:
    mask, pattern, images = torch.rand(1, 2, 3), torch.rand(2, 2, 3), torch.rand(4, 2, 2, 3)
    copies = [tensor.clone() for tensor in (mask, pattern, images)]
    Patch(mask, pattern).apply(images)
    assert all(torch.equal(*pair) for pair in zip((mask, pattern, images), copies, strict=True))


@settings(deadline=None)
@given(TRIGGERS, numbers(2))
def test_stamped_pixels_stay_in_range(trigger: Patch, image: Tensor) -> None:
    stamped = trigger.apply(image[None])
    assert float(stamped.min()) >= 0
    assert float(stamped.max()) <= 1 + 1e-6


def test_size_is_the_sum_of_the_mask() -> None:
    assert Patch(torch.tensor([[[1.0, 0.5, 0.0]]]), torch.zeros(3, 1, 3)).size == 1.5


@given(st.lists(TRIGGERS, min_size=1, max_size=4), numbers(2))
@settings(deadline=None)
def test_a_union_is_stamping_one_after_the_other(triggers: list[Patch], image: Tensor) -> None:
    expected = image[None]
    for trigger in triggers:
        expected = trigger.apply(expected)
    assert torch.allclose(union(triggers).apply(image[None]), expected, atol=1e-6)


def test_the_last_of_overlapping_triggers_lies_on_top() -> None:
    mask = torch.ones(1, 1, 1)
    below, above = Patch(mask, torch.zeros(1, 1, 1)), Patch(mask, torch.ones(1, 1, 1))
    assert union([below, above]).pattern.item() == 1
    assert union([above, below]).pattern.item() == 0


def test_a_union_of_one_is_that_one() -> None:
    trigger = Patch(torch.rand(1, 2, 3), torch.rand(2, 2, 3))
    assert torch.equal(union([trigger]).mask, trigger.mask)
    assert torch.equal(union(iter([trigger])).pattern, trigger.pattern)


def test_a_union_of_none_is_refused() -> None:
    with pytest.raises(DataError, match="at least one"):
        union([])


@pytest.mark.parametrize("shape", [(3, 2, 3), (1, 3, 2)])
def test_a_union_of_unlike_sizes_is_refused(shape: tuple[int, int, int]) -> None:
    first = Patch(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3))
    other = Patch(torch.zeros(1, *shape[1:]), torch.zeros(shape))
    with pytest.raises(DataError, match=r"\(1, 2, 3\)"):
        union([first, other])


@pytest.mark.parametrize(
    ("mask", "pattern", "message"),
    [
        (torch.zeros(2, 3), torch.zeros(1, 2, 3), r"mask \(1, H, W\)"),
        (torch.zeros(3, 2, 3), torch.zeros(3, 2, 3), r"mask \(1, H, W\)"),
        (torch.zeros(1, 2, 3), torch.zeros(2, 3), r"pattern \(C, H, W\)"),
        (torch.zeros(1, 2, 3), torch.zeros(1, 3, 2), "same height and width"),
        (torch.full((1, 1, 1), 1.01), torch.zeros(1, 1, 1), "mask must be"),
        (torch.full((1, 1, 1), -0.01), torch.zeros(1, 1, 1), "mask must be"),
        (torch.full((1, 1, 1), torch.nan), torch.zeros(1, 1, 1), "mask must be"),
        (torch.zeros(1, 1, 1), torch.full((1, 1, 1), torch.nan), "pattern must be"),
        (torch.zeros(1, 1, 1), torch.full((1, 1, 1), torch.inf), "pattern must be"),
        (torch.zeros(1, 1, 1), torch.zeros(1, 1, 1, dtype=torch.uint8), "pattern must be"),
        (torch.zeros(1, 1, 1, dtype=torch.bool), torch.zeros(1, 1, 1), "mask must be"),
    ],
)
def test_what_is_no_patch_is_refused(mask: Tensor, pattern: Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Patch(mask, pattern)


@pytest.mark.parametrize("shape", [(4, 1, 2, 3), (4, 2, 3, 2), (2, 2, 3), (2, 3)])
def test_images_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="this trigger is for images"):
        Patch(torch.zeros(1, 2, 3), torch.zeros(2, 2, 3)).apply(torch.zeros(shape))


def test_stored_bytes_are_refused() -> None:
    with pytest.raises(DataError, match="float"):
        Patch(torch.ones(1, 2, 3), torch.ones(2, 2, 3)).apply(torch.zeros(4, 2, 2, 3, dtype=torch.uint8))


def test_to_moves_both_tensors() -> None:
    moved = Patch(torch.zeros(1, 2, 3), torch.zeros(2, 2, 3)).to("cpu")
    assert (moved.mask.device.type, moved.pattern.device.type) == ("cpu", "cpu")
