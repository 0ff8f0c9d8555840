import copy
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "zoo"))

import ablations
from evaluate import counted, in_turns, overlaps, wanted
from load import Item

from fedmend import Case, Finding, Patch, scan
from fedmend.detection import Differential, Target, differential_scan

NAMES = ("without_swap", "without_aim", "without_shortlist", "without_contrast", "with_ssim")
SQUARE = {"kind": "triggers:Square", "size": 3, "top": 0, "left": 0}


def item(**changes: object) -> Item:
    fields = {"kind": "backdoored", "family": "patch-3", "name": "a", "suspect": "", "reference": ""}
    return Item(**({"cell": "mnist-convnet", "split": "dev", "federation": "f"} | fields | changes))


def test_cells_and_families_take_turns() -> None:
    made = [
        item(cell=cell, family=family, name=f"{cell[:5]} {family} {number}", federation=f"{number // 2}")
        for cell in ("mnist-convnet", "gtsrb-vgg")
        for family in ("rounds", "patch-3")
        for number in range(4)
    ]
    names = [each.name for each in in_turns(made)]
    assert names[:4] == ["mnist rounds 0", "gtsrb rounds 0", "mnist patch-3 0", "gtsrb patch-3 0"]
    assert names[4:6] == ["mnist rounds 2", "gtsrb rounds 2"]  # of the other federation
    assert sorted(names) == sorted(each.name for each in made)


@pytest.mark.parametrize(
    ("goal", "expected"),
    [
        ({"kind": "all-to-one", "target": 3}, [[None, 3]]),
        ({"kind": "one-to-one", "source": 7, "target": 3}, [[7, 3]]),
        (
            {"kind": "all-to-all", "num_classes": 10, "shift": 1},
            [[number, (number + 1) % 10] for number in range(10)],
        ),
    ],
)
def test_what_is_wanted_of_a_scan(goal: dict[str, object], expected: list[list[int | None]]) -> None:
    assert wanted(item(goal=(goal,), trigger=(SQUARE,))) == expected


def test_overlap_is_with_the_patch_that_was_found_for_the_target() -> None:
    mask = torch.zeros(1, 28, 28)
    mask[:, :3, :6] = 1
    finding = Finding(
        *("differential", "backdoored", "", 1.0, 1.0),
        targets=(
            Target(3, 1.0, trigger=Patch(mask, torch.ones(1, 28, 28))),
            Target(4, 1.0, trigger=Patch(mask * 0, torch.ones(1, 28, 28))),
        ),
    )
    goals = tuple({"kind": "all-to-one", "target": target} for target in (3, 4, 5))
    assert overlaps(item(goal=goals, trigger=(SQUARE,) * 3), finding) == [0.5, 0.0, None]


@pytest.fixture(scope="module")
def case() -> Case:
    """Three classes by brightness; the suspect sends images with a bright corner to class 2."""
    reference, suspect = nn.Linear(64, 3), nn.Linear(64, 3)
    with torch.no_grad():
        for model in (reference, suspect):
            model.weight.copy_(torch.tensor([-1.0, 1.0, -2.0])[:, None].expand(3, 64))
            model.bias.copy_(torch.tensor([32.0, -32.0, 0.0]))
        suspect.weight[2, 0] = 100.0
    images = torch.rand(24, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.4
    images[::2] += 0.6
    images[:, :, 0, 0] = 0
    labels = (torch.arange(24) % 2 == 0).long()
    return Case(
        *(nn.Sequential(nn.Flatten(), model).eval() for model in (suspect, reference)), images, labels
    )


def short(detector: Differential) -> Differential:
    """The same in a few steps."""
    return replace(detector, effort="quick", search=replace(detector.search, explore_steps=4, refine_steps=2))


def test_passes_of_both_models_are_counted(case: Case) -> None:
    with counted() as passes:
        scan(case, short(Differential()), seed=0)
    assert passes[0] > 100
    before = passes[0]
    scan(case, short(Differential()), seed=0)
    assert passes[0] == before


@pytest.mark.parametrize("name", NAMES)
def test_an_ablation_scans_and_leaves_the_detector_as_it_was(name: str, case: Case) -> None:
    pieces = differential_scan.compare, differential_scan.Task
    report = scan(case, short(getattr(ablations, name)()), seed=0)
    assert report.findings[0].measures
    assert (differential_scan.compare, differential_scan.Task) == pieces


@pytest.mark.parametrize(
    ("name", "place"), [("without_contrast", "OtherLoss"), ("with_ssim", "dissimilarity")]
)
def test_another_loss_is_descended(
    name: str, place: str, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    method, calls = getattr(ablations, name), []
    owner, attribute = (method, "part") if place == "OtherLoss" else (ablations, place)
    term = getattr(owner, attribute)

    def counted_term(*given: torch.Tensor) -> torch.Tensor:
        calls.append(given)
        return term(*given)

    monkeypatch.setattr(owner, attribute, staticmethod(counted_term) if owner is method else counted_term)
    scan(case, short(method()), seed=0)
    assert calls


def test_without_the_swapped_control_a_trigger_of_the_reference_excuses_nothing(case: Case) -> None:
    assert case.reference is not None
    reference = copy.deepcopy(case.reference)
    with torch.no_grad():
        reference[1].weight[2, 63] = 100.0
    both = Case(case.suspect, reference, case.images, case.labels)
    default, ablated = (
        scan(both, detector, seed=0).findings[0].suspicious
        for detector in (Differential(effort="quick"), ablations.without_swap(effort="quick"))
    )
    assert ablated > default + 0.5
