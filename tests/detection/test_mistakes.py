"""Configuration mistakes end in inconclusive, named where they can be, before any search."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import planted
from fedmend.detection import Case, Finding, Need, ScanReport, scan
from fedmend.detection.mistakes import doubt
from fedmend.errors import ConfigError
from fedmend.progress import Progress
from fedmend.seeds import generator

COUNT = 120


class Detector:
    """Says what it is told to, and counts its calls."""

    needs = frozenset({Need.IMAGES})

    def __init__(self, verdict: Any = "clean") -> None:
        self.verdict, self.calls = verdict, 0

    def __call__(self, case: Case, rng: torch.Generator, progress: Progress) -> Finding:
        self.calls += 1
        return Finding("stub", self.verdict, "Said so.", 0.0, 1.0)


class Through(nn.Module):
    """A model behind another preprocessing."""

    def __init__(self, model: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self.change = model, change

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(self.change(images))
        return logits


class IsRed(nn.Module):
    """Class 0 if red is the strongest channel, otherwise class 1."""

    def __init__(self, bias: float) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.tensor(bias))

    def forward(self, images: Tensor) -> Tensor:
        means = images.mean((2, 3))
        return torch.stack([means[:, 0], means[:, 1:].amax(1)], 1) + self.bias


class ByLevel(nn.Module):
    """The class is the brightness, of ``LEVELS``."""

    def __init__(self, sharpness: float) -> None:
        super().__init__()
        self.sharpness = nn.Parameter(torch.tensor(sharpness))

    def forward(self, images: Tensor) -> Tensor:
        return -self.sharpness * (images.mean((1, 2, 3))[:, None] - LEVELS) ** 2


LEVELS = torch.tensor([0.1, 0.3, 0.5, 0.7])


def of(world: planted.World, change: Callable[[Tensor], Tensor] = lambda x: x, **changes: Any) -> Case:
    """The clean pair behind a preprocessing."""
    case = Case(
        Through(world.clean, change),
        Through(world.reference, change),
        world.images[:COUNT],
        world.labels[:COUNT],
        planted.NAMES,
    )
    return replace(case, **changes)


def scanned(case: Case, detector: Detector) -> ScanReport:
    return scan(case, detector)


def stopped(case: Case, *said: str) -> None:
    """Inconclusive, with these words, and without a search."""
    detector = Detector()
    report = scanned(case, detector)
    assert report.verdict == "inconclusive"
    assert detector.calls == 0
    (finding,) = report.findings
    assert finding.detector == "case-check"
    for words in said:
        assert words in report.reason


def test_a_case_without_mistakes_is_not_doubted(world: planted.World) -> None:
    assert doubt(of(world)) is None
    assert doubt(of(world, labels=None)) is None
    assert doubt(of(world, reference=None)) is None
    assert doubt(of(world, expected_accuracy=0.99)) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: x / 255, "multiplied by 255"),
        (lambda x: x * 255, "divided by 255"),
        (lambda x: 1 - x, "inverted"),
        (lambda x: x * 0.5 + 0.5, "normalised by --mean 0.5 --std 0.5"),
        (lambda x: x * 0.2236 + 0.4, "normalised by --mean 0.4 --std 0.223"),
        (lambda x: (x - 0.5) / 0.5, "a normalisation by --mean 0.5 --std 0.5 is undone"),
    ],
)
def test_other_pixels_are_named(change: Callable[[Tensor], Tensor], said: str) -> None:
    """Both models are right only behind the opposite of the change."""
    labels = torch.arange(COUNT) % len(LEVELS)
    images = LEVELS[labels].view(-1, 1, 1, 1).expand(-1, 1, 4, 4)
    pair = [Through(ByLevel(sharpness), change) for sharpness in (10.0, 11.0)]
    assert doubt(Case(pair[0].model, pair[1].model, images, labels)) is None
    stopped(Case(pair[0], pair[1], images, labels), "The reference", said)
    stopped(Case(pair[0], None, images, labels), "The suspect", said)


def test_a_suspect_of_another_preprocessing_is_named(world: planted.World) -> None:
    stopped(of(world, suspect=Through(world.clean, lambda x: 1 - x)), "The suspect gets", "inverted")


def test_swapped_channels_are_named() -> None:
    colours = torch.tensor([0, 1, 1, 1, 2]).repeat(COUNT // 5)
    images = torch.rand(COUNT, 3, 4, 4, generator=generator(0)) / 4
    images[torch.arange(COUNT), colours] += 0.5
    case = Case(IsRed(0.0), IsRed(1.0), images, (colours != 0).long())
    assert doubt(case) is None
    stopped(replace(case, images=images.flip(1)), "red and blue are swapped")


def test_swapped_channels_are_named_beside_a_normalisation() -> None:
    class Nearest(nn.Module):
        """The class is the nearest colour."""

        def __init__(self, colours: Tensor) -> None:
            super().__init__()
            self.colours = nn.Parameter(colours)

        def forward(self, images: Tensor) -> Tensor:
            return -torch.cdist(images.mean((2, 3)), self.colours)

    colours = torch.rand(8, 3, generator=generator(1, "colours"))
    labels = torch.arange(COUNT) % 8
    images = colours[labels][:, :, None, None].expand(-1, 3, 4, 4)
    expected = ((colours - 0.5) / 0.5).flip(1)
    case = Case(Nearest(expected), None, images, labels)
    stopped(case, "normalised by --mean 0.5,0.5,0.5", "red and blue are swapped")


def test_a_mistake_is_named_where_the_first_images_do_not_show_it() -> None:
    """Every third image is grey, and looks the same inverted."""

    class IsLight(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.limit = nn.Parameter(torch.tensor(0.7))

        def forward(self, images: Tensor) -> Tensor:
            light = images.mean((1, 2, 3)) - self.limit
            return torch.stack([-light, light], 1)

    labels = (torch.arange(COUNT) % 3 != 0).long()
    images = torch.where(labels == 1, 0.1, 0.5).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)
    stopped(Case(IsLight(), None, images, labels), "inverted")


def test_a_model_that_refuses_other_pixels_is_still_checked(world: planted.World) -> None:
    def picky(images: Tensor) -> Tensor:
        assert 0 <= images.min() <= images.max() <= 1
        return 1 - images

    stopped(of(world, picky), "inverted")


@pytest.mark.parametrize(
    ("order", "names", "said"),
    [
        ([1, 0, 2, 3], planted.NAMES, 'images of "north-west" for its class 1, which is "north-east" here'),
        ([0, 1, 3, 2], ("0", "1", "10", "2"), "the names, sorted as numbers"),
        ([0, 1, 3, 2], ("0", "1", "2", "10"), "the names, sorted as text"),
    ],
)
def test_another_order_of_the_classes_is_named(
    world: planted.World, order: list[int], names: tuple[str, ...], said: str
) -> None:
    """Label ``l`` of these images is the models' class ``order[l]``."""
    labels = torch.tensor(order).argsort()[world.labels[:COUNT]]
    stopped(of(world, labels=labels, class_names=names), "put in another order", said)


def test_labels_that_count_from_one_are_named(world: planted.World) -> None:
    among = world.labels[:COUNT] < 3
    images, labels = world.images[:COUNT][among], world.labels[:COUNT][among] + 1
    stopped(
        of(world, images=images, labels=labels), "each label minus one, as if one of the two counted from 1"
    )


def test_labels_of_other_images_are_chance(world: planted.World) -> None:
    shuffled = world.labels[:COUNT][torch.randperm(COUNT, generator=generator(0))]
    stopped(of(world, labels=shuffled), "hardly better than chance (25%)")


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("kind", ["untrained", "zero", "one class"])
def test_a_suspect_that_knows_nothing_is_not_clean(world: planted.World, kind: str, labelled: bool) -> None:
    suspect = planted.small(planted.CLASSES, 1, (planted.SIDE, planted.SIDE))
    with torch.no_grad():
        for value in suspect.parameters():
            if kind == "zero":
                value.zero_()
            elif kind == "untrained":
                value.copy_(torch.randn(value.shape, generator=generator(3)) / 10)
        if kind == "one class":
            suspect[5].bias[1] += 100  # type: ignore[index, union-attr, operator]
    labels = world.labels[:COUNT] if labelled else None
    said = f'predicts "{planted.NAMES[1]}" for nearly every image' if kind == "one class" else "The suspect"
    stopped(of(world, suspect=suspect, labels=labels), said)


def spoiled(labels: Tensor, fraction: float) -> Tensor:
    """Some labels replaced by random ones."""
    wrong = torch.rand(COUNT, generator=generator(1)) < fraction
    return labels[:COUNT].where(~wrong, torch.randint(0, planted.CLASSES, (COUNT,), generator=generator(2)))


def test_an_expected_accuracy_that_is_missed_stops_the_scan(world: planted.World) -> None:
    case = of(world, labels=spoiled(world.labels, 0.25))
    assert doubt(case) is None
    stopped(replace(case, expected_accuracy=0.98), "98% is expected")
    assert doubt(replace(case, expected_accuracy=0.85)) is None


def test_without_an_expected_accuracy_a_low_one_is_not_clean(world: planted.World) -> None:
    case = of(world, labels=spoiled(world.labels, 0.68))
    detector = Detector()
    report = scanned(case, detector)
    assert detector.calls == 1
    assert [finding.verdict for finding in report.findings] == ["clean", "inconclusive"]
    assert report.verdict == "inconclusive"
    assert "say so (--expected-accuracy)" in report.reason
    assert report.reference_accuracy is not None
    assert scanned(replace(case, expected_accuracy=report.reference_accuracy), detector).verdict == "clean"
    suspicious = scanned(case, Detector("backdoored"))
    assert suspicious.verdict == "backdoored"
    assert any("say so (--expected-accuracy)" in warning for warning in suspicious.warnings)


def test_a_suspect_far_less_accurate_than_the_reference_is_not_clean(world: planted.World) -> None:
    class Forgetful(nn.Module):
        """Every third image is taken for the next class or the one after."""

        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.model(images)
            place = torch.arange(len(logits))
            return torch.where((place % 3 == 0)[:, None], logits.roll(1, 1) + logits.roll(2, 1), logits)

    report = scanned(of(world, suspect=Forgetful(deepcopy(world.clean))), Detector())
    assert report.verdict == "inconclusive"
    assert "and the reference 100%" in report.reason


@pytest.mark.parametrize("expected", [0.0, -0.5, 1.01, 94.0, float("nan")])
def test_an_expected_accuracy_is_a_fraction(world: planted.World, expected: float) -> None:
    with pytest.raises(ConfigError, match=r"fraction in \(0, 1\], such as 0.94"):
        scanned(of(world, expected_accuracy=expected), Detector())


def test_an_expected_accuracy_needs_labels(world: planted.World) -> None:
    with pytest.raises(ConfigError, match="needs labels"):
        scanned(of(world, expected_accuracy=0.9, labels=None), Detector())
