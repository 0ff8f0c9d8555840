"""NeuronInspect's sum of features and its verdict."""

from __future__ import annotations

import pytest
import torch

from fedmend.detection import Case, NeuronInspect
from fedmend.errors import ConfigError

FEATURES = {
    "sparse": torch.tensor([1.0, 2.0, 4.0]),
    "smooth": torch.tensor([10.0, 10.0, 5.0]),
    "persistent": torch.tensor([0.2, 0.1, 0.3]),
}


def test_features_are_summed_in_units_of_their_median() -> None:
    found = NeuronInspect(sparse=1, smooth=2, persistent=0.5).combined(FEATURES)
    assert found.tolist() == pytest.approx(
        [0.5 + 2 * 1 + 0.5 * 1, 1 + 2 * 1 + 0.5 * 0.5, 2 + 2 * 0.5 + 0.5 * 1.5]
    )


def spread(concentrated: int | None) -> torch.nn.Module:
    """A linear net: each class looks at all pixels, one perhaps at two in a corner."""
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10, bias=False)).eval()
    weights = torch.rand(10, 64, generator=torch.Generator().manual_seed(3)) - 0.5
    if concentrated is not None:
        weights[concentrated] *= 0.02
        weights[concentrated, :2] = 2.0
    net[1].weight.data = weights
    return net


def test_a_class_that_looks_at_few_pixels_is_found() -> None:
    images = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    for target in (None, 4):
        finding = NeuronInspect()(Case(spread(target), images=images), torch.Generator())
        assert [each.target for each in finding.targets] == ([] if target is None else [target])
        assert finding.verdict == ("clean" if target is None else "backdoored")
        sums = [measure for measure in finding.measures if measure.key.startswith("class_")]
        low = [number for number, measure in enumerate(sums) if measure.tone == "suspicious"]
        assert len(sums) == 10
        assert low == ([] if target is None else [target])
        assert all((sums[each].value < sums[each].limit) == (each in low) for each in range(10))


def test_one_weight_at_least_is_above_zero() -> None:
    with pytest.raises(ConfigError, match="at least one of sparse, smooth and persistent"):
        NeuronInspect(sparse=0, smooth=0, persistent=0)


def test_two_classes_cannot_be_compared() -> None:
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2)).eval()
    case = Case(net, images=torch.rand(12, 1, 4, 4), labels=torch.arange(12) % 2)
    finding = NeuronInspect()(case, torch.Generator())
    assert finding.verdict == "inconclusive"
    assert "2 classes are too few" in finding.reason
