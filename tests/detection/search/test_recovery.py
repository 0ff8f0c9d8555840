import math

import pytest

from fedmend.detection.search.recovery import fall, has_settled


def test_how_far_a_loss_fell_by_hand() -> None:
    assert fall([99, 99, 9, 9, 5, 7, 1, 3]) == pytest.approx(6 - 2)
    assert fall([9, 4, 6, 1, 3]) == pytest.approx(1 - 3)
    assert fall([1, 1, 1]) == math.inf


def test_a_tenth_is_little() -> None:
    assert has_settled([0, 0, 0, 0, 0.1, 0.1, 0, 0])
    assert not has_settled([0, 0, 0, 0, 0.11, 0.11, 0, 0])
    assert not has_settled([0, 0, 0])
