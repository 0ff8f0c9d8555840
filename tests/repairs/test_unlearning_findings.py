"""What unlearning takes from findings, and what it refuses."""

from copy import deepcopy

import pytest
import torch
from striped import TARGET, THOROUGH, images_and_labels, pieces, planted, unlearned
from torch import Tensor, nn

from fedmend.detection import Finding, Target
from fedmend.errors import ConfigError, DataError, ModelError
from fedmend.parameters import flatten
from fedmend.repairs import Context, Unlearning, unlearn
from fedmend.repairs.repair_report import UnlearningDetails


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"lr": 0.0},
        {"lr": float("nan")},
        {"lr": float("inf")},
        {"stamped_fraction": 0.0},
        {"stamped_fraction": 1.1},
        {"stamped_fraction": float("nan")},
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        Unlearning(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("labels", [torch.zeros(7), torch.zeros(8, 1), torch.zeros(0)])
def test_labels_that_do_not_match_are_refused(backdoored: nn.Module, labels: Tensor) -> None:
    with pytest.raises(DataError, match="labels"):
        unlearn(backdoored, planted(), images_and_labels(8)[0], labels.long())


@pytest.mark.parametrize("label", [-1, 4])
def test_labels_the_model_does_not_know_are_refused(backdoored: nn.Module, label: int) -> None:
    images, labels = images_and_labels(8)
    labels[3] = label
    with pytest.raises(DataError, match=r"labels must be in \[0, 4\)"):
        unlearn(backdoored, planted(), images, labels)


def test_nothing_to_learn_from_is_refused(backdoored: nn.Module) -> None:
    with pytest.raises(DataError, match="at least 1"):
        unlearn(backdoored, planted(), torch.zeros(0, 1, 8, 16), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(DataError, match="needs a trigger"):
        unlearned(backdoored, [], *images_and_labels(8))


def test_a_model_with_nothing_to_train_is_refused(backdoored: nn.Module) -> None:
    frozen = deepcopy(backdoored).requires_grad_(False)
    with pytest.raises(ModelError, match="requires_grad"):
        unlearn(frozen, planted(), *images_and_labels(8))


def test_the_targets_by_hand() -> None:
    """Labels and the mean of two teachers, who say 1/2, 1/2 and 9/10, 1/10."""

    class Says(nn.Module):
        def __init__(self, *shares: float) -> None:
            super().__init__()
            self.logits = torch.tensor(shares).log()

        def forward(self, images: Tensor) -> Tensor:
            return self.logits.expand(len(images), 2)

    images, labels = torch.zeros(1, 1, 2, 2), torch.tensor([1])
    targets = Unlearning(soft_targets=0.5)._targets([Says(0.5, 0.5), Says(0.9, 0.1)], images, labels)
    assert targets.tolist()[0] == pytest.approx([0.5 * 0.7, 0.5 + 0.5 * 0.3])


def test_a_references_predictions_are_averaged_with_the_suspects(backdoored: nn.Module) -> None:
    images = images_and_labels(32)
    alone = unlearned(backdoored, planted(), *images)
    itself = unlearned(backdoored, planted(), *images, reference=backdoored)
    other = unlearned(backdoored, planted(), *images, reference=alone)
    assert torch.equal(alone[1].weight, itself[1].weight)
    assert not torch.equal(alone[1].weight, other[1].weight)


def finding(*targets: Target) -> Finding:
    return Finding("any", "backdoored", "", 1.0, 0.8, targets=targets)


def test_triggers_and_variants_of_all_findings_are_unlearned(backdoored: nn.Module) -> None:
    first, *others = pieces()
    findings = [
        finding(Target(TARGET, 1.0, trigger=first, variants=tuple(others))),
        finding(Target(2, 0.5), Target(3, 0.9, trigger=planted())),
        finding(),
    ]
    images, labels = images_and_labels(32)
    context = Context(images=images, labels=labels, attempt=2, seed=3)
    candidate = THOROUGH(backdoored, findings, context)
    by_hand = unlearned(backdoored, [first, *others, planted()], images, labels, seed=3)
    assert torch.equal(flatten(candidate.model.state_dict()), flatten(by_hand.state_dict()))
    assert candidate.details == UnlearningDetails(passes=2, triggers=len(pieces()) + 1)
    assert candidate.summary == f"A trigger in {len(pieces()) + 1} variants was found and unlearned"


def test_a_lone_trigger_has_no_variants(backdoored: nn.Module) -> None:
    images, labels = images_and_labels(8)
    findings = [finding(Target(TARGET, 1.0, trigger=planted()))]
    candidate = Unlearning()(backdoored, findings, Context(images=images, labels=labels))
    assert candidate.summary == "A trigger was found and unlearned"


def test_without_images_nothing_is_unlearned(backdoored: nn.Module) -> None:
    findings = [finding(Target(TARGET, 1.0, trigger=planted()))]
    with pytest.raises(ConfigError, match="needs the server's own clean images"):
        Unlearning()(backdoored, findings, Context())
    with pytest.raises(DataError, match="needs a trigger"):
        Unlearning()(backdoored, [finding()], Context(images=torch.zeros(8, 1, 8, 16)))


def test_an_unlearning_that_diverges_says_so(backdoored: nn.Module) -> None:
    with pytest.raises(ConfigError, match=r"unlearning diverged.*smaller lr"):
        unlearned(backdoored, planted(), *images_and_labels(32), Unlearning(epochs=3, lr=1e36))
