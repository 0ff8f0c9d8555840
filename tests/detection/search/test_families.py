import torch

from fedmend.detection.search.additions import Additions
from fedmend.detection.search.families import ADDITIONS, PAIR_PATCHES, PATCHES
from fedmend.detection.search.patches import Patches
from fedmend.seeds import generator
from fedmend.triggers import Addition, Patch

IMAGES = torch.rand(2, 3, 10, 20)


def test_a_patch_s_sizes_are_in_pixels_and_an_addition_s_are_not() -> None:
    assert (PATCHES.unit(IMAGES), ADDITIONS.unit(IMAGES)) == (200, 1)


def test_patches_for_pairs_are_judged_at_smaller_sizes() -> None:
    assert PAIR_PATCHES.sizes == (0.04, 0.02, 0.01, 0.005)
    assert PATCHES.sizes == (0.3, 0.16, 0.08, *PAIR_PATCHES.sizes[:-1])
    assert PAIR_PATCHES.unit(IMAGES) == PATCHES.unit(IMAGES)
    assert isinstance(PAIR_PATCHES.candidates(2, IMAGES, generator(0)), Patches)


def test_each_family_draws_its_own_candidates() -> None:
    patches, additions = (each.candidates(3, IMAGES, generator(0)) for each in (PATCHES, ADDITIONS))
    assert isinstance(patches, Patches)
    assert isinstance(additions, Additions)
    assert len(patches) == len(additions) == 3
    for trigger in patches.triggers(4.0):
        assert isinstance(trigger, Patch)
        assert trigger.size <= 4.001
    for trigger in additions.triggers(0.05):
        assert isinstance(trigger, Addition)
        assert trigger.strength < 0.012  # a tenth of the largest limit to begin with
