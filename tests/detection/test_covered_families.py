from dataclasses import replace

import pytest

from fedmend.detection import covered_families
from fedmend.detection.comparing import Comparison
from fedmend.detection.covered_families import coverage, warnings
from fedmend.detection.difference_rule import Evidence

FAMILIES = ("patch, all-to-one", "patch, one-to-one", "addition, all-to-one", "addition, one-to-one")
EMPTY = Evidence((), None, None, ("cat", "dog"), ())


def searched(*numbers: int) -> tuple[Comparison, ...]:
    return tuple(Comparison(FAMILIES[number], (), None, 1, 0.0) for number in numbers)


@pytest.fixture(autouse=True)
def _measured(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = {("standard", FAMILIES[0]): (38, 40), ("standard", FAMILIES[3]): (0, 40)}
    monkeypatch.setattr(covered_families, "measured_share", lambda *of: shares.get(of))


def test_what_was_searched_with_its_measured_share() -> None:
    covered = coverage(replace(EMPTY, comparisons=searched(0, 1, 2), not_searched=FAMILIES[3:]), "standard")
    assert tuple(each.family for each in covered) == FAMILIES
    assert [each.searched for each in covered] == [True, True, True, False]
    assert [(each.found, each.measured) for each in covered] == [(38, 40), *[(None, None)] * 3]
    assert [each.why_not for each in covered] == ["", "", "", "only with the effort exhaustive"]
    assert [each.sizes for each in covered[:3]] == [
        "up to 30% of the image, with two classes up to 16%",
        "up to 4% of the image",
        "changes of at most 10% of the pixels' range, root mean square",
    ]
    assert warnings(covered) == ()


def test_why_the_others_were_not() -> None:
    few = coverage(
        replace(EMPTY, comparisons=searched(0, 2), not_searched=(FAMILIES[1], FAMILIES[3])), "exhaustive"
    )
    assert few[1].why_not == few[3].why_not == "too few images of each class, or only two classes"
    (warning,) = warnings(few)
    assert "8 images or more" in warning
    ended = coverage(replace(EMPTY, comparisons=searched(0), not_searched=FAMILIES[3:]), "standard")
    assert ended[1].why_not == ended[2].why_not == "the search ended when another family stood out"
    quick = coverage(replace(EMPTY, comparisons=searched(0), not_searched=FAMILIES[1:]), "quick")
    assert [each.why_not for each in quick[1:]] == [
        f"only with the effort {name}" for name in ("standard", "standard", "exhaustive")
    ]
    assert warnings(quick) == ()
    blind = coverage(replace(EMPTY, blind="no gradient"), "standard")
    assert {each.why_not for each in blind} == {"a model can't be searched"}
