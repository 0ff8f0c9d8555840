"""What two papers' unlearning trains on: the contrastive paper adds stamped copies, Neural Cleanse replaces images."""

from dataclasses import replace

import pytest
import torch
from striped import images_and_labels, pieces
from torch import Tensor, nn

from fedmend.detection import Finding, Target
from fedmend.local_training import LocalTraining
from fedmend.parameters import flatten
from fedmend.repairs import Context, ContrastivePaperUnlearning, NeuralCleanseUnlearning
from fedmend.repairs.repair_report import UnlearningDetails

FIRST, SECOND, THIRD = pieces()
IMAGES, LABELS = images_and_labels(20)
ONCE = LocalTraining(epochs=1, batch_size=50)


class Watching(nn.Module):
    """Remembers the batches that it is trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Sequential(nn.Flatten(), nn.Linear(128, 4))
        self.batches: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            self.batches.append(images.detach().clone())
        logits: Tensor = self.linear(images)
        return logits


def finding(*targets: Target) -> Finding:
    return Finding("made up", "backdoored", "Because.", 1.0, 0.5, targets=targets)


ONE = finding(Target(1, 1.0, trigger=FIRST, variants=(THIRD,)))
TWO = finding(Target(1, 1.0, trigger=FIRST), Target(2, 1.0, trigger=SECOND))


def seen(method: object, *findings: Finding, **context: object) -> Tensor:
    given = replace(Context(images=IMAGES, labels=LABELS), **context)  # type: ignore[arg-type]
    candidate = method(Watching(), findings, given)  # type: ignore[operator]
    return torch.cat(candidate.model.batches)


def count(trained_on: Tensor, images: Tensor) -> int:
    """How many of the images were trained on."""
    return sum(bool((trained_on - image).flatten(1).abs().amax(1).lt(1e-6).any()) for image in images)


def test_the_contrastive_papers_adds_copies_with_the_first_trigger_alone() -> None:
    method = ContrastivePaperUnlearning(stamped_fraction=0.2, training=ONCE)
    trained_on, clean = seen(method, ONE, TWO), IMAGES / 255
    assert len(trained_on) == 24
    assert count(trained_on, clean) == 20
    assert count(trained_on, FIRST.apply(clean)) == 4
    assert count(trained_on, SECOND.apply(clean)) == count(trained_on, THIRD.apply(clean)) == 0


def test_neural_cleanses_replaces_images_and_takes_each_targets_trigger_in_turn() -> None:
    method = NeuralCleanseUnlearning(stamped_fraction=0.3, training=ONCE)
    trained_on, clean = seen(method, TWO, ONE), IMAGES / 255
    assert len(trained_on) == 20
    assert count(trained_on, clean) == 14
    assert count(trained_on, FIRST.apply(clean)) == count(trained_on, SECOND.apply(clean)) == 3
    assert count(trained_on, THIRD.apply(clean)) == 0


METHODS = pytest.mark.parametrize(
    "method", [ContrastivePaperUnlearning(), NeuralCleanseUnlearning()], ids=["contrastive", "neural cleanse"]
)


@METHODS
def test_one_epoch_by_default_over_a_fifth(
    method: ContrastivePaperUnlearning | NeuralCleanseUnlearning,
) -> None:
    assert method.training.epochs == 1
    assert method.stamped_fraction == 0.2


@METHODS
def test_the_true_labels_are_learned(method: ContrastivePaperUnlearning | NeuralCleanseUnlearning) -> None:
    thorough = replace(
        method, stamped_fraction=1.0, training=LocalTraining(epochs=30, batch_size=10, lr=0.01)
    )
    model = thorough(Watching(), (ONE,), Context(images=IMAGES, labels=LABELS)).model
    with torch.no_grad():
        assert model(FIRST.apply(IMAGES / 255)).argmax(1).tolist() == LABELS.tolist()


@METHODS
def test_a_reference_changes_nothing(
    method: ContrastivePaperUnlearning | NeuralCleanseUnlearning, backdoored: nn.Module
) -> None:
    def once(reference: nn.Module | None) -> Tensor:
        torch.manual_seed(0)
        suspect = Watching()
        context = Context(reference, IMAGES, LABELS)
        return flatten(method(suspect, (ONE,), context).model.state_dict())

    with torch.random.fork_rng(devices=[]):
        assert torch.equal(once(None), once(backdoored))


def test_what_is_said_of_it() -> None:
    context = Context(images=IMAGES, labels=LABELS, attempt=2)
    paper = ContrastivePaperUnlearning()(Watching(), (TWO,), context)
    assert paper.details == UnlearningDetails(2, 1)
    assert paper.summary == "One trigger was unlearned from 20 clean images and 4 stamped copies"
    cleanse = NeuralCleanseUnlearning()(Watching(), (TWO,), context)
    assert cleanse.details == UnlearningDetails(2, 2)
    assert cleanse.summary == "2 triggers were unlearned, stamped on 4 of 20 images"
