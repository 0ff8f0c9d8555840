import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from fedmend.detection.search.aimed_search import AimedSearch, Explored, Stage, Task, parted
from fedmend.detection.search.aims import Aim, all_to_one, pairs
from fedmend.detection.search.direction import Direction, Logits
from fedmend.detection.search.families import ADDITIONS, PATCHES, Family
from fedmend.errors import ConfigError, ModelError
from fedmend.seeds import generator
from fedmend.triggers import Patch

CLASSES, COUNT, SIDE = 4, 12, 5
IMAGES = torch.full((COUNT, 1, SIDE, SIDE), 0.2)
IMAGES[:, 0, 4, 4] = torch.arange(COUNT) % 2
BEFORE = torch.arange(COUNT) % 2
SEARCH = AimedSearch()


def honest(images: Tensor) -> Tensor:
    """Class 1 if the last pixel is bright, otherwise 0; a little of the others anywhere."""
    last = images[:, 0, 4, 4]
    return torch.stack([3 * (1 - last), 3 * last, images.mean((1, 2, 3)), images.mean((1, 2, 3))], 1)


def backdoored(images: Tensor) -> Tensor:
    """The first pixel, slightly brighter than it is, makes it class 2."""
    fires = (images[:, 0, 0, 0] - 0.2) * 60
    return honest(images) + torch.stack([0 * fires, 0 * fires, fires, 0 * fires], 1)


def one_to_one(images: Tensor) -> Tensor:
    """The same for images of class 1 only."""
    fires = (images[:, 0, 0, 0] - 0.2) * 60 * (images[:, 0, 4, 4] - 0.7).clamp_min(0) / 0.3
    return honest(images) + torch.stack([0 * fires, 0 * fires, 0 * fires, fires], 1)


def task(fires: Logits, stays: Logits = honest, family: Family = PATCHES, seed: int = 0) -> Task:
    clean = torch.stack([fires(IMAGES), stays(IMAGES)])
    direction = Direction(fires, stays, fires, stays, IMAGES, BEFORE, BEFORE, CLASSES, clean)
    return Task(direction, family, generator(seed))


def searched(
    work: Task, aims: list[Aim], search: AimedSearch = SEARCH, together: bool = False
) -> dict[Aim, float]:
    found = search.refine(work, search.explore(work, aims), together=together)
    totals = [each.total for each in found]
    assert totals == sorted(totals, reverse=True)
    return {each.aim: each.total for each in found}


@pytest.mark.parametrize("family", [PATCHES, ADDITIONS])
def test_the_planted_target_survives_the_smallest_sizes(family: Family) -> None:
    found = searched(task(backdoored, family=family), all_to_one(CLASSES))
    assert next(iter(found)) == Aim(2)
    assert found[Aim(2)] > 3.5
    assert max(total for aim, total in found.items() if aim != Aim(2)) < 2.5


def test_the_planted_pair_comes_first() -> None:
    found = searched(task(one_to_one), pairs(torch.tensor([0, 1]), list(range(CLASSES))))
    assert next(iter(found)) == Aim(3, source=1)
    assert found[Aim(3, source=1)] - found.get(Aim(3, source=0), 0.0) > 1.5


def test_what_works_in_both_models_does_not_count_unless_asked_for() -> None:
    assert searched(task(backdoored, backdoored), all_to_one(CLASSES))[Aim(2)] < 1.0
    assert searched(task(backdoored, backdoored), all_to_one(CLASSES), together=True)[Aim(2)] > 3.5
    assert searched(task(backdoored, honest), all_to_one(CLASSES), together=True)[Aim(2)] < 2.5


def test_exploring_leaves_aims_without_images_out_and_drops_the_worst() -> None:
    lone = task(backdoored)
    everything = [*all_to_one(CLASSES), Aim(0, source=3)]
    assert Aim(0, source=3) not in SEARCH.explore(lone, everything).aims
    assert SEARCH.explore(lone, [Aim(0, source=3)]).aims == ()
    assert SEARCH.refine(lone, SEARCH.explore(lone, [])) == []
    few = replace(SEARCH, finalists=1, restarts=3)
    explored = few.explore(lone, everything)
    assert explored.aims == (Aim(2),)
    assert len(explored.candidates) == 1
    early = replace(SEARCH, many=2, finalists=1)
    assert early.explore(lone, everything).aims == (Aim(2),)
    assert len(replace(SEARCH, restarts=3).explore(lone, everything).aims) == CLASSES  # one candidate an aim


def test_refining_drops_the_weaker_half_down_to_the_least() -> None:
    work = task(backdoored)
    explored = SEARCH.explore(work, all_to_one(CLASSES))
    halved = replace(SEARCH, least=1).refine(work, explored)
    assert [len(each.rates) for each in halved] == [6, 2, 1, 1]
    assert all(len(each.triggers) == len(each.rates) for each in halved)
    kept = replace(SEARCH, least=4).refine(work, explored)
    assert [len(each.rates) for each in kept] == [6, 6, 6, 6]


def test_rates_are_those_of_the_triggers() -> None:
    work = task(backdoored)
    (best, *_) = SEARCH.refine(work, SEARCH.explore(work, all_to_one(CLASSES)))
    limits = work.limits
    assert limits == pytest.approx([size * SIDE * SIDE for size in PATCHES.sizes])
    for rate, trigger, limit in zip(best.rates, best.triggers, limits, strict=True):
        assert isinstance(trigger, Patch)
        assert trigger.size <= limit * 1.001
        stamped = trigger.apply(IMAGES[best.judged])
        hits = (backdoored(stamped).argmax(1) == 2) & (honest(stamped).argmax(1) != 2)
        assert rate == pytest.approx(float(hits.float().mean()))


def test_only_the_aim_s_own_images_are_judged_and_not_too_many() -> None:
    work = task(one_to_one)
    search = replace(SEARCH, judged=3)
    for each in search.refine(work, search.explore(work, pairs(torch.tensor([1]), [2, 3]))):
        assert len(each.judged) == 3
        assert bool((BEFORE[each.judged] == 1).all())


def test_the_seed_alone_decides() -> None:
    def once(seed: int) -> Tensor:
        work = task(backdoored, seed=seed)
        (best, *_) = SEARCH.refine(work, SEARCH.explore(work, all_to_one(CLASSES)))
        return torch.stack([each.mask for each in best.triggers if isinstance(each, Patch)])

    first, again, other = once(0), once(0), once(1)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_every_gradient_step_is_reported() -> None:
    steps = []
    work = replace(task(backdoored), step=lambda: steps.append(1))
    searched(work, all_to_one(CLASSES), replace(SEARCH, explore_steps=7, refine_steps=3))
    assert len(steps) == 7 + 3 * len(PATCHES.sizes)


def test_a_search_in_which_nothing_works_ends_early() -> None:
    found = SEARCH.refine(task(honest), SEARCH.explore(task(honest), [Aim(2), Aim(3)]))
    assert max(len(each.rates) for each in found) < len(PATCHES.sizes)
    assert SEARCH.refine(task(honest), Explored((), PATCHES.candidates(0, IMAGES, generator(0)))) == []


def test_a_loss_that_is_nan_is_an_error() -> None:
    with pytest.raises(ModelError, match="NaN or infinite"):
        SEARCH.explore(task(lambda images: honest(images) * float("nan")), [Aim(2)])


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match="finalists"):
        AimedSearch(finalists=0)


@pytest.mark.parametrize("stage", ["explore", "alone", "together"])
def test_the_loss_by_hand(stage: Stage) -> None:
    """Of images of class 0 alone: the others' logits would make it another loss."""
    logits = torch.tensor([[1.0, 0.0, 2.0, 0.0], [3.0, 0.5, 1.0, 0.0]])

    def constant(number: int, images: Tensor) -> Tensor:
        own = (images[:, 0, 4, 4] < 0.5).float()[:, None]
        return 0 * images.sum((1, 2, 3))[:, None] + own * logits[number] + (1 - own) * 9 * logits[number]

    work = task(partial(constant, 0), partial(constant, 1))
    explored = Explored(
        (Aim(2, source=0),), PATCHES.candidates(1, torch.zeros(1, 1, SIDE, SIDE), generator(0))
    )
    fires, stays = logits.log_softmax(1)
    loss = work.descend(explored, 0.01, 4, stage)
    unlike = cosine_similarity(*(logits - logits.mean(1, keepdim=True)), dim=0)
    second = {"explore": stays[2], "together": -stays[2], "alone": 2 * (unlike - unlike)}
    assert float(loss) == pytest.approx(float(second[stage] - fires[2]), abs=1e-4)


def test_exploring_prefers_what_works_in_the_suspect_alone() -> None:
    """Class 3 is the easiest in both models."""

    def near(model: Logits) -> Logits:
        return lambda images: model(images) + torch.tensor([0.0, 0.0, 0.0, 2.5])

    work, one = task(near(backdoored), near(honest)), replace(SEARCH, finalists=1)
    assert one.explore(work, all_to_one(CLASSES)).aims == (Aim(2),)
    both = task(near(backdoored), near(backdoored))
    assert one.explore(both, [Aim(1), Aim(2)], together=True).aims == (Aim(2),)


class Given:
    """Candidates that have these losses whatever happens."""

    def __init__(self, losses: Tensor) -> None:
        self.losses = losses

    def only(self, chosen: list[int]) -> "Given":
        return Given(self.losses[chosen])

    def descend(self, *_: object) -> Tensor:
        return self.losses


class GivenFamily(Family):
    def candidates(self, count: int, images: Tensor, rng: torch.Generator) -> Given:  # type: ignore[override]
        return Given(torch.arange(count, 0, -1.0))


def test_aims_are_dropped_after_a_tenth_of_the_steps_and_after_half(monkeypatch: pytest.MonkeyPatch) -> None:
    """With more than ``many`` of them, each step takes one image a candidate; then as many as the family says."""
    counts = []

    def descend(candidates: Given, images: Tensor, *_: object) -> Tensor:
        counts.append(tuple(images.shape[:2]))
        return candidates.losses

    monkeypatch.setattr(Given, "descend", descend)
    work = task(backdoored, family=GivenFamily("given", (0.1, 0.1), (0.1, 0.1), 0.1, 2))
    replace(SEARCH, many=3, finalists=2).explore(work, all_to_one(CLASSES))
    assert counts == [(4, 1)] * 2 + [(3, 2)] * 8 + [(2, 2)] * 10


@pytest.mark.parametrize(("steps", "best"), [(1, Aim(2)), (2, Aim(3))])
def test_the_first_step_s_losses_rank_only_if_there_are_no_others(
    steps: int, best: Aim, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Candidates are still random then. The mean over both steps would rank the first aim first."""
    losses = iter(torch.tensor([[0.0, 9.0], [2.0, 1.0]]))
    monkeypatch.setattr(Given, "descend", lambda *_: next(losses))
    work = task(backdoored, family=GivenFamily("given", (0.1, 0.1), (0.1, 0.1), 0.1, 1))
    explored = replace(SEARCH, explore_steps=steps).explore(work, [Aim(2), Aim(3)])
    assert explored.aims[0] == best


def test_of_several_candidates_an_aim_the_best_is_left() -> None:
    """The last of each aim's three has its lowest loss, and the last aim the lowest of all."""
    work = task(backdoored, family=GivenFamily("given", (0.1, 0.1), (0.1, 0.1), 0.1, 1))
    explored = replace(SEARCH, restarts=3, finalists=2).explore(work, all_to_one(CLASSES))
    assert explored.aims == (Aim(3), Aim(2))
    assert explored.candidates.losses.tolist() == [1.0, 4.0]  # type: ignore[attr-defined]


def test_the_contrastive_loss_ignores_constants_and_wants_the_models_apart() -> None:
    clean = torch.tensor([[4.0, 0.0, 0.0]])
    fired = torch.tensor([[0.0, 4.0, 0.0]])
    kept, parted_far = parted(clean, clean, clean), parted(clean, clean, fired)
    assert kept.tolist() == pytest.approx([0.0], abs=1e-6)
    assert parted_far.tolist() == pytest.approx([-1.5])  # cosines of -1/2 and 1
    assert parted(clean + 1000, clean - 7, fired + 50).tolist() == pytest.approx([-1.5], abs=1e-3)


def test_with_two_classes_a_cross_entropy_keeps_the_prediction() -> None:
    clean = torch.tensor([[0.0, 4.0]])
    stays = torch.tensor([[1.0, 0.0]], requires_grad=True)
    loss = parted(stays, clean, -clean)
    assert float(loss.detach()) == pytest.approx(float(torch.tensor(1 + math.e).log()) / 2)
    loss.sum().backward()
    assert stays.grad is not None
    assert stays.grad[0, 1] < -0.1
