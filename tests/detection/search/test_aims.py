import torch

from fedmend.detection.search.aims import Aim, admitted, all_to_one, pairs


def test_an_aim_is_about_its_source_or_all_but_its_target() -> None:
    classes = torch.tensor([0, 1, 2, 1])
    assert Aim(1).admits(classes).tolist() == [True, False, True, False]
    assert Aim(1, source=2).admits(classes).tolist() == [False, False, True, False]
    assert (Aim(1).sources, Aim(1, source=0).sources) == ((), (0,))


def test_every_class_and_every_pair() -> None:
    assert all_to_one(3) == [Aim(0), Aim(1), Aim(2)]
    found = pairs(torch.tensor([0, 2, 0]), [1, 2])
    assert found == [Aim(1, 0), Aim(1, 2), Aim(2, 0)]


def test_images_at_the_target_already_are_left_out() -> None:
    classes, already = torch.tensor([0, 0, 2]), torch.tensor([0, 1, 2])
    rows = admitted([Aim(1), Aim(1, source=2), Aim(0)], classes, already)
    assert rows.tolist() == [[True, False, True], [False, False, True], [False, False, True]]
    assert admitted([], classes, already).shape == (0, 3)
