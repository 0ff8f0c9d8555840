"""What unlearning takes from findings, and what it refuses."""

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from striped import TARGET, THOROUGH, images_and_labels, pieces, planted, unlearned
from torch import Tensor, nn

from fedmend.detection import Finding, Target
from fedmend.errors import ConfigError, DataError, ModelError
from fedmend.parameters import flatten
from fedmend.repairs import Context, Unlearning, unlearn
from fedmend.repairs.repair_report import UnlearningDetails
from fedmend.triggers import Addition


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
        {"reference_weights": (0.5, -0.1)},
        {"reference_weights": (1.1,)},
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


class Leaning(nn.Module):
    """Says 0 with this certainty, and 1 otherwise."""

    def __init__(self, certainty: float) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([certainty, 1 - certainty]).log())

    def forward(self, images: Tensor) -> Tensor:
        return self.logits.expand(len(images), 2)


@pytest.mark.parametrize(("label", "wanted"), [(1, 0.4), (0, 0.65)])
def test_a_less_accurate_reference_teaches_beside_the_suspect(label: int, wanted: float) -> None:
    """The reference says 0 with 0.4, the suspect with 0.9: one of them is right on every image."""
    images, labels = torch.zeros(64, 1, 2, 2), torch.full((64,), label)
    method = Unlearning(epochs=60, soft_targets=1.0, reference_weights=(), lr=0.1, stamped_fraction=1e-9)
    context = Context(Leaning(0.4), images, labels)
    taught = method.fine_tuned(Leaning(0.9), [Addition(torch.zeros(1, 2, 2))], context)
    # Of each 17 images one is a stamped copy, whose target is the reference's.
    wanted = (16 * wanted + 0.4) / 17
    assert taught(images[:1]).softmax(1)[0, 0].item() == pytest.approx(wanted, abs=0.01)


def test_a_references_predictions_are_learned(backdoored: nn.Module) -> None:
    images = images_and_labels(32)
    method = replace(THOROUGH, reference_weights=())
    alone = unlearned(backdoored, planted(), *images, method)
    itself = unlearned(backdoored, planted(), *images, method, reference=backdoored)
    other = unlearned(backdoored, planted(), *images, method, reference=alone)
    assert torch.equal(alone[1].weight, itself[1].weight)
    assert not torch.equal(alone[1].weight, other[1].weight)


def test_a_stamped_images_target_is_what_the_reference_predicts(backdoored: nn.Module) -> None:
    """The suspect's leaning towards its target class, here 1 on every image, isn't taught on stamped ones."""

    class Says(nn.Module):
        def __init__(self, label: int) -> None:
            super().__init__()
            self.logits = nn.Parameter(torch.zeros(2))
            self.register_buffer("wanted", torch.eye(2)[label] * 4)

        def forward(self, images: Tensor) -> Tensor:
            stamped = (images.flatten(1).mean(1) > 0.5).float()[:, None]
            return self.wanted * (1 - stamped) + self.logits * stamped

    images, labels = torch.zeros(64, 1, 2, 2), torch.zeros(64, dtype=torch.int64)
    method = Unlearning(epochs=40, soft_targets=1.0, reference_weights=(), lr=0.1)
    white = Addition(torch.ones(1, 2, 2))
    taught = method.fine_tuned(Says(1), [white], Context(Says(0), images, labels))
    alone = method.fine_tuned(Says(1), [white], Context(None, images, labels))
    with torch.no_grad():
        assert taught(torch.ones(1, 1, 2, 2)).argmax(1).item() == 0
        assert alone(torch.ones(1, 1, 2, 2)).argmax(1).item() == 1


def started(suspect: nn.Module, reference: nn.Module, **settings: float) -> nn.Module:
    """What the suspect is before the first step that counts."""
    images, labels = images_and_labels(64)
    method = Unlearning(lr=1e-12, **settings)
    return method.fine_tuned(suspect, [planted()], Context(reference, images, labels))


def moved(model: nn.Module, by: float) -> Any:
    other: Any = deepcopy(model)
    with torch.no_grad():
        other[5].bias += by * torch.arange(4)
    return other


def test_it_starts_between_suspect_and_reference(backdoored: nn.Module) -> None:
    near = moved(backdoored, 0.1)
    for weight in (0.0, 0.5, 1.0):
        start: Any = started(backdoored, near, reference_weights=(weight,))
        assert torch.allclose(start[5].bias, moved(backdoored, 0.1 * weight)[5].bias, atol=1e-6)


def test_weights_that_layers_share_are_averaged_once() -> None:
    suspect: Any = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.Linear(4, 4))
    suspect[2].weight = suspect[1].weight
    near = deepcopy(suspect)
    with torch.no_grad():
        near[1].weight += 0.01
    images, labels = (
        torch.rand(32, 1, 2, 2, generator=torch.Generator().manual_seed(0)),
        torch.zeros(32).long(),
    )
    method = Unlearning(lr=1e-12, reference_weights=(0.5,))
    white = Addition(torch.ones(1, 2, 2))
    start: Any = method.fine_tuned(suspect.eval(), [white], Context(near.eval(), images, labels))
    assert torch.allclose(start[1].weight, suspect[1].weight + 0.005, atol=1e-5)


class Below(nn.Module):
    """Says 1 of images darker than its edge, and 0 of others."""

    def __init__(self, edge: float) -> None:
        super().__init__()
        self.edge = nn.Parameter(torch.tensor(edge))

    def forward(self, images: Tensor) -> Tensor:
        bright = images.flatten(1).mean(1) - self.edge
        return torch.stack([bright, -bright], 1)


def test_one_of_a_hundred_images_is_one_per_cent() -> None:
    """1 - 0.99 is a little more than 0.01."""
    images = (torch.arange(100) / 100 + 0.005).view(100, 1, 1, 1)
    context = Context(Below(0.01), images, torch.zeros(100, dtype=torch.int64))
    nothing = finding(Target(0, 1.0, trigger=Addition(torch.zeros(1, 1, 1))))
    candidate = Unlearning(reference_weights=(1.0,))(Below(0.0), [nothing], context)
    assert candidate.details == UnlearningDetails(1, 1, reference_weight=1.0)


def test_the_first_start_that_costs_no_accuracy_is_taken(backdoored: nn.Module) -> None:
    start: Any = started(backdoored, moved(backdoored, 1000.0), reference_weights=(0.9, 1e-4, 0.0))
    assert torch.allclose(start[5].bias, moved(backdoored, 0.1)[5].bias, atol=1e-4)


def test_at_the_reference_nothing_is_left_to_unlearn(backdoored: nn.Module) -> None:
    """The learning rate is multiplied by the suspect's weight in the start."""
    near, images = moved(backdoored, 0.1), images_and_labels(64)
    method = Unlearning(reference_weights=(1.0,), lr=0.1)
    start: Any = method.fine_tuned(backdoored, [planted()], Context(near, *images))
    assert torch.equal(flatten(start.state_dict()), flatten(near.state_dict()))


def test_a_start_that_costs_accuracy_or_does_not_fit_is_the_suspect(backdoored: nn.Module) -> None:
    other = nn.Sequential(nn.Flatten(), nn.Linear(128, 4))
    for reference in (moved(backdoored, 1000.0), other):
        start: Any = started(backdoored, reference, reference_weights=(0.5,))
        assert torch.allclose(start[5].bias, backdoored[5].bias, atol=1e-6)  # type: ignore[index]


def test_the_report_says_where_it_started(backdoored: nn.Module) -> None:
    images, labels = images_and_labels(32)
    findings = [finding(Target(TARGET, 1.0, trigger=planted()))]
    context = Context(moved(backdoored, 0.1), images, labels)
    candidate = Unlearning(reference_weights=(0.25,))(backdoored, findings, context)
    assert candidate.details == UnlearningDetails(1, 1, reference_weight=0.25)
    assert candidate.summary.endswith("from a start with 25% of the reference's weights")


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
    assert candidate.summary == f"{len(pieces()) + 1} triggers for 2 targets were found and unlearned"


def test_additions_and_pairs_are_unlearned_on_images_of_all_classes(backdoored: nn.Module) -> None:
    images, labels = images_and_labels(32)
    addition = Addition(torch.full((1, 8, 16), 0.1))
    findings = [finding(Target(TARGET, 1.0, (2,), addition, (planted(),)))]
    candidate = THOROUGH(backdoored, findings, Context(images=images, labels=labels, seed=3))
    by_hand = unlearned(backdoored, [addition, planted()], images, labels, seed=3)
    assert torch.equal(flatten(candidate.model.state_dict()), flatten(by_hand.state_dict()))


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
