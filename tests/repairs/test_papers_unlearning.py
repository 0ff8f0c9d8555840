"""What two papers' unlearning trains on: the contrastive paper adds stamped copies, Neural Cleanse replaces images."""

from dataclasses import replace

import pytest
import torch
from striped import images_and_labels, pieces, untrained
from torch import Tensor, nn

from fedmend.detection import Finding, Target
from fedmend.local_training import LocalTraining
from fedmend.parameters import flatten
from fedmend.repairs import Context, ContrastivePaperUnlearning, NeuralCleanseUnlearning
from fedmend.repairs.repair_report import UnlearningDetails

FIRST, SECOND, THIRD = pieces()
IMAGES, LABELS = images_and_labels(20)
PIXELS = IMAGES / 255
CONTEXT = Context(images=IMAGES, labels=LABELS)
Method = ContrastivePaperUnlearning | NeuralCleanseUnlearning


class Noting(LocalTraining):
    """Notes what it is given, and trains nothing."""

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> None:
        GIVEN[:] = [images, labels]


GIVEN: list[Tensor] = []


def finding(*targets: Target) -> Finding:
    return Finding("made up", "backdoored", "Because.", 1.0, 0.5, targets=targets)


ONE = finding(Target(1, 1.0, trigger=FIRST, variants=(THIRD,)))
TWO = finding(Target(1, 1.0, trigger=FIRST), Target(2, 1.0, trigger=SECOND))


def originals(method: Method, *findings: Finding) -> list[tuple[str, int]]:
    """What each image that is trained on is made of: its stamp and the number of the original.

    Its label is checked to be the original's.
    """
    replace(method, training=Noting())(untrained(), findings, CONTEXT)
    images, labels = GIVEN
    known = {"clean": PIXELS} | {
        name: trigger.apply(PIXELS) for name, trigger in (("first", FIRST), ("second", SECOND))
    }
    made = []
    for image, label in zip(images, labels.tolist(), strict=True):
        (found,) = (
            (name, int(index))
            for name, each in known.items()
            for index in (each - image).abs().flatten(1).amax(1).lt(1e-6).nonzero().flatten()
        )
        assert label == int(LABELS[found[1]])
        made.append(found)
    return made


def count(made: list[tuple[str, int]], stamp: str) -> int:
    return sum(name == stamp for name, _ in made)


def test_neural_cleanses_stamps_the_trigger_of_every_target_however_few_the_images() -> None:
    made = originals(NeuralCleanseUnlearning(stamped_fraction=0.01), TWO)
    assert sorted(name for name, _ in made if name != "clean") == ["first", "second"]


def test_the_contrastive_papers_adds_copies_with_the_first_trigger_alone() -> None:
    made = originals(ContrastivePaperUnlearning(stamped_fraction=0.2), ONE, TWO)
    assert made[:20] == [("clean", index) for index in range(20)]
    assert len(set(made)) == 24
    assert count(made, "first") == 4


def test_neural_cleanses_replaces_images_and_takes_each_targets_trigger_in_turn() -> None:
    made = originals(NeuralCleanseUnlearning(stamped_fraction=0.3), TWO, ONE)
    assert [index for _, index in made] == list(range(20))
    assert (count(made, "clean"), count(made, "first"), count(made, "second")) == (14, 3, 3)


METHODS = pytest.mark.parametrize(
    "method", [ContrastivePaperUnlearning(), NeuralCleanseUnlearning()], ids=["contrastive", "neural cleanse"]
)


@METHODS
def test_one_epoch_by_default_over_a_fifth(method: Method) -> None:
    assert method.training.epochs == 1
    assert method.stamped_fraction == 0.2


@METHODS
def test_a_reference_changes_nothing(method: Method, backdoored: nn.Module) -> None:
    first, second = (
        flatten(method(untrained(), (ONE,), Context(reference, IMAGES, LABELS)).model.state_dict())
        for reference in (None, backdoored)
    )
    assert torch.equal(first, second)


def test_what_is_said_of_it() -> None:
    context = replace(CONTEXT, attempt=2)
    paper = ContrastivePaperUnlearning()(untrained(), (TWO,), context)
    assert paper.details == UnlearningDetails(2, 1)
    assert paper.summary == "One trigger was unlearned from 20 clean images and 4 stamped copies"
    cleanse = NeuralCleanseUnlearning()(untrained(), (TWO,), context)
    assert cleanse.details == UnlearningDetails(2, 2)
    assert cleanse.summary == "2 triggers were unlearned, stamped on 4 of 20 images"
