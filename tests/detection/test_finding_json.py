import json
from typing import Any

import pytest
import torch

from fedmend.detection import Covered, Finding, ScanReport, Target
from fedmend.errors import DataError
from fedmend.triggers import Addition

DELTA = 2 * torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0)) - 1
FINDING = Finding(
    detector="own",
    verdict="backdoored",
    reason="A backdoor.",
    suspicious=2.0,
    limit=0.8,
    targets=(Target(4, 0.5, (2,), Addition(DELTA), (Addition(-DELTA),)),),
    p_value=1 / 7,
    coverage=(
        Covered("patch, all-to-one", "up to 16%", True, found=39, measured=40),
        Covered("addition, one-to-one", "faint", False, "only with the effort exhaustive"),
    ),
)
REPORT = ScanReport("backdoored", "A backdoor.", (FINDING,), None, None, 0, (), 0, "cpu", {}, 1.0)


def test_additions_coverage_and_p_values_survive_json() -> None:
    (finding,) = ScanReport.from_json(REPORT.to_json()).findings
    assert (finding.p_value, finding.coverage) == (FINDING.p_value, FINDING.coverage)
    (target,) = finding.targets
    for trigger, delta in ((target.trigger, DELTA), (target.variants[0], -DELTA)):
        assert isinstance(trigger, Addition)
        assert torch.equal(trigger.delta, delta)


def test_a_finding_without_them_can_be_read() -> None:
    content = json.loads(REPORT.to_json())
    for name in ("p_value", "coverage"):
        del content["findings"][0][name]
    (finding,) = ScanReport.from_json(json.dumps(content)).findings
    assert (finding.p_value, finding.coverage) == (None, ())


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("targets", 0, "trigger", "delta", "shape"), [4, 5]),
        (("targets", 0, "trigger", "delta"), "text"),
        (("coverage", 0, "searched"), "perhaps"),
        (("coverage", 0, "color"), "red"),
        (("p_value",), "small"),
    ],
)
def test_a_damaged_part_is_refused(path: tuple[Any, ...], value: object) -> None:
    content = json.loads(REPORT.to_json())
    place = content["findings"][0]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(DataError):
        ScanReport.from_json(json.dumps(content))
