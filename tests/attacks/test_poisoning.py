from typing import Any

import pytest
import torch
from torch import Tensor

from fedmend.attacks import Poisoning
from fedmend.errors import ConfigError
from fedmend.goals import AllToOne, OneToOne, Several
from fedmend.seeds import generator
from fedmend.triggers import Atoms, Patch, Sinusoid


def trigger() -> Patch:
    return Atoms("+", (1, 5, 15)).patch


def images_and_labels(count: int = 40) -> tuple[Tensor, Tensor]:
    random = generator(0, "images")
    images = torch.randint(0, 200, (count, 1, 5, 15), generator=random, dtype=torch.uint8)
    return images, torch.arange(count) % 4


def poison(fraction: float, target: int = 1, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    images, labels = images_and_labels()
    mixed, truth = Poisoning(trigger(), AllToOne(target), fraction)(images, labels, generator(seed))
    return images, labels, mixed, truth


def test_the_originals_stay_with_their_labels() -> None:
    images, labels, mixed, truth = poison(0.5)
    assert torch.equal(mixed[:40], images)
    assert torch.equal(truth[:40], labels)
    assert mixed.dtype == torch.uint8
    assert truth.dtype == torch.int64


@pytest.mark.parametrize(("fraction", "copies"), [(0.5, 15), (1.0, 30), (0.1, 3), (0.001, 1)])
def test_copies_are_a_fraction_of_the_other_classes_images(fraction: float, copies: int) -> None:
    # Thirty of the forty images are not of the target class.
    _, _, mixed, truth = poison(fraction)
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


def test_a_part_stamps_only_its_own_pixels() -> None:
    images, labels = images_and_labels()
    piece = Atoms("+", (1, 5, 15)).parts()[1]
    mixed, _ = Poisoning(piece, AllToOne(1), 1.0)(images, labels, generator(0))
    assert int((mixed[40:] == 255).sum()) == 30 * 5


def test_the_generator_chooses() -> None:
    first, again, other = poison(0.2)[2], poison(0.2)[2], poison(0.2, seed=1)[2]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_inputs_and_the_global_generator_are_left_alone() -> None:
    images, labels = images_and_labels()
    copies, state = (images.clone(), labels.clone()), torch.get_rng_state()
    Poisoning(trigger(), AllToOne(1), 0.5)(images, labels, generator(0))
    assert torch.equal(images, copies[0])
    assert torch.equal(labels, copies[1])
    assert torch.equal(torch.get_rng_state(), state)


def test_a_client_with_the_target_alone_has_nothing_to_poison() -> None:
    images = images_and_labels()[0][:3]
    labels = torch.ones(3, dtype=torch.int64)
    mixed, truth = Poisoning(trigger(), AllToOne(1), 1.0)(images, labels, generator(0))
    assert torch.equal(mixed, images)
    assert torch.equal(truth, labels)


@pytest.mark.parametrize("fraction", [0.0, -0.5, 1.01, float("nan"), "x", "0.5", None, True])
def test_a_fraction_out_of_range_is_refused(fraction: Any) -> None:
    with pytest.raises(ConfigError, match="poisoned fraction"):
        Poisoning(trigger(), AllToOne(0), fraction)


@pytest.mark.parametrize(("fraction", "copies"), [(1.0, 10), (0.5, 5), (0.25, 2), (0.01, 1)])
def test_copies_are_a_fraction_of_the_source_classs_images(fraction: float, copies: int) -> None:
    images, labels = images_and_labels()  # ten images of each of four classes
    mixed, truth = Poisoning(trigger(), OneToOne(3, 1), fraction)(images, labels, generator(0))
    assert torch.equal(mixed[:40], images)
    assert truth.tolist() == labels.tolist() + [1] * copies
    elsewhere = trigger().mask[0] == 0
    sources = []
    for copy in mixed[40:]:
        assert (copy[0][~elsewhere] == 255).all()
        sources += (images[:, 0, elsewhere] == copy[0][elsewhere]).all(1).nonzero().flatten().tolist()
    assert len(set(sources)) == len(sources) == copies
    assert {int(labels[source]) for source in sources} == {3}


def test_without_an_image_of_the_source_class_there_is_nothing_to_poison() -> None:
    images, labels = images_and_labels()
    mixed, truth = Poisoning(trigger(), OneToOne(7, 1), 1.0)(images, labels, generator(0))
    assert torch.equal(mixed, images)
    assert torch.equal(truth, labels)


def test_each_copy_gets_the_label_that_the_goal_wants() -> None:
    images, labels = images_and_labels()
    goal, wanted = Several(((0, 2), (3, 1))), {0: 2, 3: 1}
    mixed, truth = Poisoning(trigger(), goal, 1.0)(images, labels, generator(0))
    elsewhere = trigger().mask[0] == 0
    copied = []
    for copy, label in zip(mixed[40:], truth[40:].tolist(), strict=True):
        same = (images[:, 0, elsewhere] == copy[0][elsewhere]).all(1).nonzero()
        copied.append(int(labels[same]))
        assert label == wanted[copied[-1]]
    assert sorted(copied) == [0] * 10 + [3] * 10


def test_a_trigger_over_the_whole_image_is_stamped_and_rounded() -> None:
    images, labels = images_and_labels()
    sinusoid = Sinusoid(amplitude=0.1, frequency=2)
    mixed, _ = Poisoning(sinusoid, AllToOne(1), 1.0)(images, labels, generator(0))
    stamped = (sinusoid.apply(images[labels != 1] / 255) * 255).round().to(torch.uint8)
    assert sorted(mixed[40:].flatten(1).tolist()) == sorted(stamped.flatten(1).tolist())
