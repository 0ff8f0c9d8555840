import torch
from torch import Tensor

from fedmend.detection.model_pair import ModelPair
from fedmend.detection.search.direction import Direction

LOGITS = torch.tensor([[1.0, 4.0, 0.0], [5.0, 3.0, 0.0], [0.0, 1.0, 2.0]])  # gaps 3, 2 and 1
OTHER = torch.tensor([[9.0, 4.0, 0.0], [5.0, 3.0, 0.0], [0.0, 1.0, 2.0]])
IMAGES = torch.zeros(3, 1, 2, 2)


def direction(suspect: Tensor, reference: Tensor = OTHER) -> Direction:
    """Of models that return these outputs whatever they are shown."""

    def model(outputs: Tensor) -> tuple[Tensor, Tensor]:
        return outputs, outputs

    pair = ModelPair(
        lambda _: model(suspect), lambda _: model(reference), IMAGES, model(suspect), model(reference)
    )
    return Direction.of(pair)


def test_the_predictions_of_both_models() -> None:
    found = direction(LOGITS)
    assert found.before.tolist() == [1, 0, 2]
    assert found.kept.tolist() == [0, 0, 2]
    assert found.classes == 3


def test_the_median_gap_becomes_six() -> None:
    assert torch.equal(direction(LOGITS).fires(IMAGES), 3 * LOGITS)  # the median gap is 2
    assert torch.allclose(direction(LOGITS).stays(IMAGES), 3 * OTHER)


def test_without_models_in_full_precision_those_of_the_search_judge() -> None:
    found = direction(LOGITS)
    assert torch.equal(found.fires_exactly(IMAGES), found.fires(IMAGES))
    assert torch.equal(found.stays_exactly(IMAGES), found.stays(IMAGES))


def test_the_scale_of_logits_changes_nothing() -> None:
    for factor in (1e-6, 0.1, 1e4, 1e9):
        assert torch.allclose(direction(factor * LOGITS).fires(IMAGES), 3 * LOGITS)


def test_probabilities_become_logarithms() -> None:
    found = direction(LOGITS.softmax(1)).fires(IMAGES)
    assert torch.allclose(found - found[:, :1], 3 * (LOGITS - LOGITS[:, :1]), atol=1e-4)
    sure = direction(torch.eye(3)).fires(IMAGES)
    assert bool(sure.isfinite().all())


def test_positive_logits_are_no_probabilities() -> None:
    assert torch.allclose(direction(0.1 * LOGITS).fires(IMAGES), 3 * LOGITS)


def test_a_model_without_preferences_keeps_its_scale() -> None:
    assert torch.equal(direction(torch.zeros(3, 3)).fires(IMAGES), torch.zeros(3, 3))
