import pytest
import torch
from torch import Tensor

from fedmend.attacks import Poisoning, atoms
from fedmend.errors import ConfigError
from fedmend.seeds import generator
from fedmend.triggers import Patch, union


def trigger() -> Patch:
    return union(atoms("+", (1, 5, 15)))


def images_and_labels(count: int = 40) -> tuple[Tensor, Tensor]:
    random = generator(0, "images")
    images = torch.randint(0, 200, (count, 1, 5, 15), generator=random, dtype=torch.uint8)
    return images, torch.arange(count) % 4


def poison(share: float, target: int = 1, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    images, labels = images_and_labels()
    mixed, truth = Poisoning(trigger(), target, share)(images, labels, generator(seed))
    return images, labels, mixed, truth


def test_the_originals_stay_with_their_labels() -> None:
    images, labels, mixed, truth = poison(0.5)
    assert torch.equal(mixed[:40], images)
    assert torch.equal(truth[:40], labels)
    assert mixed.dtype == torch.uint8
    assert truth.dtype == torch.int64


@pytest.mark.parametrize(("share", "copies"), [(0.5, 15), (1.0, 30), (0.1, 3), (0.001, 1)])
def test_copies_are_a_share_of_the_other_classes_images(share: float, copies: int) -> None:
    # Thirty of the forty images are not of the target class.
    _, _, mixed, truth = poison(share)
    assert len(mixed) == len(truth) == 40 + copies
    assert truth[40:].tolist() == [1] * copies


def test_copies_are_stamped_images_of_other_classes_each_once() -> None:
    images, labels, mixed, _ = poison(1.0)
    stamped_pixels = trigger().mask[0] == 1
    sources = []
    for copy in mixed[40:]:
        assert (copy[0][stamped_pixels] == 255).all()
        same = (images[:, 0, ~stamped_pixels] == copy[0][~stamped_pixels]).all(1).nonzero().flatten()
        assert len(same) == 1
        sources.append(int(same))
    assert sorted(sources) == (labels != 1).nonzero().flatten().tolist()


def test_an_atom_stamps_only_its_own_pixels() -> None:
    images, labels = images_and_labels()
    piece = atoms("+", (1, 5, 15))[1]
    mixed, _ = Poisoning(piece, 1, 1.0)(images, labels, generator(0))
    assert int((mixed[40:] == 255).sum()) == 30 * 5


def test_the_generator_chooses() -> None:
    first, again, other = poison(0.2)[2], poison(0.2)[2], poison(0.2, seed=1)[2]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_inputs_and_the_global_generator_are_left_alone() -> None:
    images, labels = images_and_labels()
    copies, state = (images.clone(), labels.clone()), torch.get_rng_state()
    Poisoning(trigger(), 1, 0.5)(images, labels, generator(0))
    assert torch.equal(images, copies[0])
    assert torch.equal(labels, copies[1])
    assert torch.equal(torch.get_rng_state(), state)


def test_a_client_with_the_target_alone_has_nothing_to_poison() -> None:
    images = images_and_labels()[0][:3]
    labels = torch.ones(3, dtype=torch.int64)
    mixed, truth = Poisoning(trigger(), 1, 1.0)(images, labels, generator(0))
    assert torch.equal(mixed, images)
    assert torch.equal(truth, labels)


@pytest.mark.parametrize("share", [0.0, -0.5, 1.01, float("nan")])
def test_a_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match="poisoned_share"):
        Poisoning(trigger(), 0, share)


def test_a_negative_target_is_refused() -> None:
    with pytest.raises(ConfigError, match="target_class"):
        Poisoning(trigger(), -1, 0.5)


# One class alone is attacked


@pytest.mark.parametrize(("share", "copies"), [(1.0, 10), (0.5, 5), (0.25, 2), (0.01, 1)])
def test_copies_are_a_share_of_the_victim_classs_images(share: float, copies: int) -> None:
    images, labels = images_and_labels()  # ten images of each of four classes
    mixed, truth = Poisoning(trigger(), 1, share, victim_class=3)(images, labels, generator(0))
    assert torch.equal(mixed[:40], images)
    assert truth.tolist() == labels.tolist() + [1] * copies
    elsewhere = trigger().mask[0] == 0
    sources = []
    for copy in mixed[40:]:
        assert (copy[0][~elsewhere] == 255).all()
        sources += (images[:, 0, elsewhere] == copy[0][elsewhere]).all(1).nonzero().flatten().tolist()
    assert len(set(sources)) == len(sources) == copies
    assert {int(labels[source]) for source in sources} == {3}


def test_without_an_image_of_the_victim_class_there_is_nothing_to_poison() -> None:
    images, labels = images_and_labels()
    mixed, truth = Poisoning(trigger(), 1, 1.0, victim_class=7)(images, labels, generator(0))
    assert torch.equal(mixed, images)
    assert torch.equal(truth, labels)


@pytest.mark.parametrize("victim", [-1, 1])
def test_the_victim_class_is_another_one_than_the_target(victim: int) -> None:
    with pytest.raises(
        ConfigError, match=f"victim_class must be 0 or more and not the target_class; got {victim}"
    ):
        Poisoning(trigger(), 1, 0.5, victim)
    assert Poisoning(trigger(), 1, 0.5, 0).victim_class == 0
