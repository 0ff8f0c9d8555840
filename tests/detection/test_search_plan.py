import math

import torch

from fedmend.detection.search.aimed_search import AimedSearch
from fedmend.detection.search.families import PATCHES
from fedmend.detection.search_plan import WORK, SearchPlan, passes_of, planned

SEARCH = AimedSearch()
IMAGES = torch.rand(2, 3, 224, 224)


def plan(classes: int, cost: float, memory: int | None = None) -> SearchPlan:
    return planned(SEARCH, PATCHES, classes, cost=int(cost), images=IMAGES, memory=memory)


def test_a_small_model_is_searched_as_ever() -> None:
    for classes in (2, 10, 100):
        found = plan(classes, 0.555e9)
        assert (found.search, found.passes, found.notes, found.warnings) == (SEARCH, math.inf, (), ())


def test_a_large_one_gets_the_least_cut_that_fits_and_the_report_says_so() -> None:
    sizes = []
    for cost in (1.8e9, 4.1e9, 17.5e9):
        found = plan(1000, cost)
        sizes.append(found.search.finalists)
        assert found.passes == WORK / int(cost)
        assert f"cut to about {found.passes:,.0f} passes" in found.notes[0]
        assert found.warnings
        if cost < 17e9:
            assert 2 * passes_of(found.search, PATCHES, 1000) <= found.passes
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] < SEARCH.finalists


def test_settings_that_are_smaller_already_stay() -> None:
    small = AimedSearch(finalists=2, judged=10)
    found = planned(small, PATCHES, 1000, cost=int(17.5e9), images=IMAGES, memory=None)
    assert (found.search.finalists, found.search.judged) == (2, 10)


def test_only_as_many_candidates_as_fit_the_memory_are_explored() -> None:
    a_candidate = 12 * 4 * 224 * 224 * 4
    assert plan(1000, 0, 50 * a_candidate).search.shortlist == 50
    assert plan(50, 0, 50 * a_candidate).search.shortlist is None


def test_passes_by_hand() -> None:
    search = AimedSearch(
        explore_steps=4, many=3, finalists=2, least=1, refine_steps=5, batch_size=2, judged=10
    )
    explored = 3 * (6 + 3 + 2 + 2)  # dropped after the first and the second step
    refined = (2 + 1 + 1 + 1 + 1 + 1) * (4 * 5 * 2 + 2 * 10)
    assert passes_of(search, PATCHES, 6) == explored + refined
