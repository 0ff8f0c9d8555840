"""Which images activation clustering calls poisoned, and when it can't tell."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fedmend.detection import ActivationClustering, Case, Finding
from fedmend.detection.activation_clustering import Split
from fedmend.seeds import generator

CLASSES, DIMENSIONS = 3, 12


class Direct(nn.Module):
    """The hidden activations are the pixels; the logits are the first three."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(DIMENSIONS, CLASSES, bias=False)
        self.head.weight.data = torch.eye(CLASSES, DIMENSIONS)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(images.flatten(1))


def found(poisoned: int, per_class: int = 100, **settings: object) -> Finding:
    """Noise about a point for each class; ``poisoned`` images of class 1 lie elsewhere."""
    labels = torch.arange(CLASSES).repeat_interleave(per_class)
    points = 0.05 * torch.randn(len(labels), DIMENSIONS, generator=generator(0))
    points += nn.functional.one_hot(labels, DIMENSIONS) * 0.5 + 0.3
    points[per_class : per_class + poisoned, -1] += 0.35
    case = Case(Direct().eval(), images=points.clamp(0, 1).view(-1, 1, 3, 4), labels=labels)
    return ActivationClustering(**settings)(case, generator(1))  # type: ignore[arg-type]


def test_the_poisoned_images_are_named() -> None:
    finding = found(15)
    assert (finding.verdict, finding.targets[0].target) == ("backdoored", 1)
    assert finding.poisoned == tuple(range(100, 115))
    assert 'labelled "1", 15% form a cluster' in finding.reason
    assert "100, 101" in finding.reason
    assert finding.targets[0].success == 1.0


def test_clean_images_split_into_halves() -> None:
    finding = found(0)
    assert (finding.verdict, finding.poisoned, finding.targets) == ("clean", (), ())
    assert "says nothing of triggers that aren't in them" in finding.reason


def test_a_small_cluster_has_a_few_images_at_least() -> None:
    detector = ActivationClustering(fewest=3)
    pair, three = (Split(1, torch.arange(count), 0.02, 0.5) for count in (2, 3))
    assert not detector._small(pair)
    assert detector._small(three)


def test_half_of_a_class_is_no_small_cluster() -> None:
    assert found(45).verdict == "clean"
    assert found(45, size=0.5, silhouette=0.05).verdict == "backdoored"


def test_too_few_images_are_inconclusive() -> None:
    finding = found(3, per_class=10)
    assert finding.verdict == "inconclusive"
    assert "No class has 20 labelled images" in finding.reason
    assert found(3, per_class=10, components=5).verdict != "inconclusive"


def test_the_activations_scale_does_not_matter() -> None:
    class Scaled(Direct):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.head(1000 * images.flatten(1) - 7)

    labels = torch.arange(CLASSES).repeat_interleave(40)
    images = torch.rand(len(labels), 1, 3, 4, generator=generator(2))
    plain, scaled = (
        ActivationClustering()(Case(net.eval(), images=images, labels=labels), generator(1))
        for net in (Direct(), Scaled())
    )
    assert scaled.suspicious == pytest.approx(plain.suspicious, abs=1e-6)
