"""From a search of all classes to a finding."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedmend.detection import Case
from fedmend.detection.anomaly_index import anomaly
from fedmend.detection.class_by_class import finding_of_classes
from fedmend.detection.outlier_rule import Compared
from fedmend.detection.search.inverted import Inverted
from fedmend.triggers import Patch

NAMES = ("cat", "dog", "owl", "fox", "elk")


class Corner(nn.Module):
    """Takes images with a white corner for class 0, others for the class of their next pixel, in tenths."""

    def forward(self, images: Tensor) -> Tensor:
        corner, own = images[:, 0, 0, 0], (images[:, 0, 0, 1] * 10).round().long()
        return nn.functional.one_hot(own.where(corner < 1, 0), 5).float()


def test_flagged_classes_are_tried_and_the_search_is_told_of() -> None:
    mask = torch.zeros(1, 2, 2)
    mask[0, 0, 0] = 1
    patches = tuple(Patch(mask, mask.clone() * (number == 0)) for number in range(5))
    norms = torch.tensor([4.0, 20.0, 22.0, 24.0, 26.0])
    found = Inverted(patches, norms, torch.tensor([True, True, True, True, False]), "it was over")
    compared = Compared("the size", "", norms, found.reached, anomaly(norms), 2.0, NAMES.__getitem__)
    images = torch.zeros(5, 1, 2, 2)
    images[:, 0, 0, 1] = torch.arange(5) / 10
    case = Case(Corner(), images=images, labels=torch.arange(5), class_names=NAMES)
    finding = finding_of_classes(
        "sizes", case, found, compared, notes=("in a hurry",), settings={"limit": 2.0}
    )
    assert (finding.detector, finding.verdict) == ("sizes", "backdoored")
    assert [(target.target, target.success) for target in finding.targets] == [(0, 1.0)]
    assert (finding.notes, finding.settings) == (("in a hurry",), {"limit": 2.0})
    assert finding.stop_reason == "it was over"
    (warning,) = finding.warnings
    assert '"elk"' in warning
