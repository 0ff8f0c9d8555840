"""What a scan says with a reference that is much less accurate than the suspect."""

import pytest
import torch

import planted
from fedmend.detection import Case, DifferenceLimits, weak_reference
from fedmend.detection.comparing import compare
from fedmend.detection.difference_rule import Evidence, decide
from fedmend.detection.search.aimed_search import Strength
from fedmend.detection.search.aims import Aim
from fedmend.detection.weak_reference import accuracies_if_weak
from fedmend.seeds import generator

LIMITS = DifferenceLimits()
WEAK = (0.6, 0.9)


def right(count: int, of: int = 100) -> torch.Tensor:
    """Predictions of which so many are right, if all labels are 1."""
    return (torch.arange(of) < count).long()


@pytest.mark.parametrize(
    ("reference", "suspect", "of", "weak"),
    [
        (60, 90, 100, True),  # a gap of 0.3 beyond 0.05 and 3 times 0.057
        (70, 90, 100, False),  # 0.2 isn't beyond 0.05 and 3 times 0.055
        (700, 900, 1000, True),  # it is with ten times the images: 3 times 0.017
        (90, 60, 100, False),
    ],
)
def test_how_much_less_accurate_is_weak(reference: int, suspect: int, of: int, weak: bool) -> None:
    labels = torch.ones(of, dtype=torch.int64)
    found = accuracies_if_weak(right(reference, of), right(suspect, of), labels)
    assert found == ((reference / of, suspect / of) if weak else None)
    assert accuracies_if_weak(right(reference, of), right(suspect, of), None) is None


def evidence(strengths: tuple[float, ...], swapped: float | None, *, weak: bool = True) -> Evidence:
    """Of a scan in which classes 0, 1, ... have these strengths."""

    def made(totals: tuple[float, ...]) -> list[Strength]:
        return [Strength(Aim(target), (total,), (), torch.arange(2)) for target, total in enumerate(totals)]

    other = None if swapped is None else made((swapped,))
    return Evidence(
        comparisons=(compare("patch, all-to-one", made(strengths), other, 1),),
        together=(),
        blind=None,
        class_names=("cat", "dog", "owl"),
        not_searched=(),
        weak_reference=WEAK if weak else None,
    )


@pytest.mark.parametrize(
    ("strengths", "swapped", "verdict", "told"),
    [
        ((3.0, 1.0), 1.4, "backdoored", "1.6 sizes ahead of the others"),
        ((3.0, 1.0), 1.5, "inconclusive", "too little for a backdoor (1.6)"),
        ((1.8, 1.0), None, "inconclusive", "too little for a backdoor (1.6)"),
        ((1.8, 1.0), 3.0, "inconclusive", "0.8 sizes ahead of other classes (patch, all-to-one). As small"),
        ((1.8, 1.0), 3.0, "inconclusive", "only 60% of the images right, and the suspect 90%"),
        ((1.7, 1.0), 3.0, "clean", "a backdoor leads by 1.6 or more"),
    ],
)
def test_with_a_weak_reference_less_is_said(
    strengths: tuple[float, ...], swapped: float | None, verdict: str, told: str
) -> None:
    found, reason = decide(evidence(strengths, swapped), LIMITS.for_weak_reference())
    assert found == verdict
    assert told in reason


def test_with_another_one_the_swapped_search_is_believed() -> None:
    assert decide(evidence((1.8, 1.0), 3.0, weak=False), LIMITS)[0] == "clean"
    assert decide(evidence((3.0, 1.0), 1.5, weak=False), LIMITS)[0] == "backdoored"


def test_a_scan_doubles_its_limits_and_warns(world: planted.World, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(world.backdoored, world.reference, world.images[:40], world.labels[:40])
    usual = planted.QUICK(case, generator(0, "scan"))
    monkeypatch.setattr(weak_reference, "accuracies_if_weak", lambda *_: WEAK)
    found = planted.QUICK(case, generator(0, "scan"))
    assert found.measures[0].limit == 2 * usual.measures[0].limit
    assert found.suspicious == pytest.approx(usual.suspicious / 2)
    (warning,) = set(found.warnings) - set(usual.warnings)
    assert "the reference gets 60% of the images right and the suspect 90%" in warning


def test_a_scan_measures_both_accuracies(world: planted.World) -> None:
    """The reference takes two of three images for the next class."""
    labels = world.labels[:60]

    class Confused(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = world.reference

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits = self.model(images)
            wrong = (images.flatten(1).sum(1).mul(1000).long() % 3 > 0)[:, None]
            return logits.roll(1, 1).where(wrong, logits)

    case = Case(world.reference, Confused(), world.images[:60], labels)
    found = planted.QUICK(case, generator(0, "scan"))
    assert any("honest models differ more" in each for each in found.warnings)
    assert found.measures[0].limit == 2 * LIMITS.lead
