import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import planted
from fedmend.attacks import CleanLabel
from fedmend.attacks.clean_label import adversarial
from fedmend.errors import ConfigError
from fedmend.goals import AllToOne, Goal, Several
from fedmend.seeds import generator

IMAGES, LABELS = planted.draw(40, 0)


def linear() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(planted.SIDE**2, 4))


def poisoned(attack: CleanLabel) -> tuple[Tensor, Tensor]:
    images, labels = attack(IMAGES, LABELS, generator(0))
    assert torch.equal(images[:40], IMAGES)
    assert torch.equal(labels[:40], LABELS)
    return images[40:], labels[40:]


def test_copies_are_of_the_target_class_and_keep_its_label() -> None:
    copies, labels = poisoned(CleanLabel(planted.patch(), AllToOne(1), 0.5))
    assert labels.tolist() == [1] * 5
    assert bool((copies[:, :, :2, :3] == 255).all())
    elsewhere = planted.patch().mask[0] == 0
    for copy in copies:
        same = (IMAGES[:, 0, elsewhere] == copy[0, elsewhere]).all(1)
        assert LABELS[same].tolist() == [1]


def test_each_target_of_several_is_poisoned() -> None:
    _, labels = poisoned(CleanLabel(planted.patch(), Several(((0, 2), (1, 3))), 1.0))
    assert sorted(labels.tolist()) == [2] * 10 + [3] * 10


class Looked:
    """A goal that looks its targets up, and so fails on what is no class."""

    def targets(self, labels: Tensor) -> Tensor:
        return torch.tensor([-1, 3, -1, -1])[labels]

    def classes(self) -> tuple[int, ...]:
        return (1, 3)


@pytest.mark.parametrize(("goal", "target"), [(Looked(), 3), (AllToOne(0), 0)], ids=["looked-up", "class-0"])
def test_a_goal_is_asked_about_classes_only(goal: Goal, target: int) -> None:
    _, labels = poisoned(CleanLabel(planted.patch(), goal, 0.5))
    assert labels.tolist() == [target] * 5


def test_perturbed_images_stay_close_and_have_a_higher_loss() -> None:
    model, pixels = linear(), IMAGES / 255
    moved = adversarial(model, pixels, LABELS, 0.05, 5)
    assert float((moved - pixels).abs().max()) <= 0.05 + 1e-6
    assert 0 <= float(moved.min()) <= float(moved.max()) <= 1
    with torch.no_grad():
        assert cross_entropy(model(moved), LABELS) > cross_entropy(model(pixels), LABELS)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_one_step_by_hand() -> None:
    """A linear model's gradient with respect to its input is the weights times the error."""
    model, pixels = linear(), (IMAGES[:1] / 255).clamp(0.3, 0.7)
    error = model(pixels).softmax(1)[0]
    error[LABELS[0]] -= 1
    expected = pixels + 0.02 * (error @ model[1].weight).view_as(pixels).sign()
    torch.testing.assert_close(adversarial(model, pixels, LABELS[:1], 0.02, 1), expected.detach())


def test_only_against_a_model_are_they_perturbed() -> None:
    plain = CleanLabel(planted.patch(), AllToOne(1), 1.0)
    still, moved = (poisoned(each)[0] for each in (plain, plain.against(linear())))
    assert not torch.equal(still, moved)
    assert int((still.int() - moved.int()).abs().max()) <= 17


@pytest.mark.parametrize("values", [{"epsilon": 1.5}, {"steps": 0}, {"fraction": 0.0}])
def test_settings_out_of_range_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"fraction|epsilon|steps"):
        CleanLabel(planted.patch(), AllToOne(1), **({"fraction": 0.5} | values))  # type: ignore[arg-type]
