from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fedmend.detection import Finding, Target
from fedmend.errors import ConfigError, ModelError
from fedmend.repairs import Context, NeuralCleansePruning
from fedmend.repairs.neural_cleanse_pruning import by_gap, last_layer, success_along
from fedmend.repairs.repair_report import NeuronDetails
from fedmend.triggers import Patch

IMAGES = torch.zeros(6, 1, 1, 4)
IMAGES[torch.arange(6), 0, 0, torch.arange(6) % 2] = 1.0
LABELS = torch.arange(6) % 2


def corner(column: int) -> Patch:
    mask = torch.zeros(1, 1, 4)
    mask[0, 0, column] = 1
    return Patch(mask, mask.clone())


class Net(nn.Sequential):
    """Pixels 0 and 1 tell the class; pixels 2 and 3 send to class 2, through neurons 2 and 3."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Identity(), nn.Linear(4, 3, bias=False))
        with torch.no_grad():
            self[2].weight.copy_(torch.tensor([[4.0, 0, 0, 0], [0, 4, 0, 0], [0, 0, 9, 7]]))


def found(*targets: Target) -> tuple[Finding, ...]:
    return (Finding("made up", "backdoored", "Because.", 1.0, 0.5, targets=targets),)


A, B = Target(2, 1.0, trigger=corner(2)), Target(2, 1.0, trigger=corner(3))


def pruned(*targets: Target, model: nn.Module | None = None, **context: object) -> object:
    given = replace(Context(images=IMAGES, labels=LABELS), **context)  # type: ignore[arg-type]
    return NeuralCleansePruning()(model or Net(), found(*targets), given)


def test_neurons_are_ranked_by_how_much_the_trigger_raises_them() -> None:
    clean, stamped = torch.tensor([[0.0, 1, 2], [0, 1, 4]]), torch.tensor([[1.0, 1, 1], [3, 1, 9]])
    assert by_gap(clean, stamped).tolist() == [0, 2, 1]  # raised by 2, 0 and 2 on average, ties in order


def test_success_along_the_order_by_hand() -> None:
    """Neurons (1, 0, 1): without neuron 2 the images are class 0 again; without 0 as well, it is a tie."""
    layer = nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[2.0, 0, 0], [0, 0, 3]]))
    stamped = torch.tensor([[1.0, 0, 1], [1, 0, 1]])
    assert success_along(stamped, layer, torch.tensor([2, 1, 0]), 1).tolist() == [1.0, 0.0, 0.0, 0.0]
    assert success_along(stamped, layer, torch.tensor([0, 1, 2]), 1).tolist() == [1.0, 1.0, 1.0, 0.0]


def test_pruning_stops_when_the_trigger_does() -> None:
    candidate = pruned(A)
    assert candidate.details == NeuronDetails({"2": (2,)}, 4)  # type: ignore[attr-defined]
    weight = candidate.model[2].weight  # type: ignore[attr-defined]
    assert weight[:, 2].tolist() == [0, 0, 0]
    assert torch.equal(weight[:, [0, 1, 3]], Net()[2].weight[:, [0, 1, 3]])
    assert candidate.summary == "1 of 4 neurons before the last layer were pruned"  # type: ignore[attr-defined]


def test_several_targets_are_treated_in_turn() -> None:
    assert pruned(A, B).details == NeuronDetails({"2": (2, 3)}, 4)  # type: ignore[attr-defined]


def test_only_the_first_finding_with_a_trigger_counts() -> None:
    bare, first, second = found(Target(2, 1.0)), found(A), found(B)
    context = Context(images=IMAGES, labels=LABELS)
    candidate = NeuralCleansePruning()(Net(), (*bare, *first, *second), context)
    assert candidate.details == NeuronDetails({"2": (2,)}, 4)


def test_a_trigger_that_never_stops_is_warned_of() -> None:
    net = Net()
    net[2].bias = nn.Parameter(torch.tensor([0.0, 0.0, 100.0]))
    candidate = pruned(A, model=net)
    assert candidate.warnings == (  # type: ignore[attr-defined]
        "whatever is pruned, the trigger still sends 100% of the images to class 2",
    )


@pytest.mark.parametrize(
    "computed", [nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm]
)
def test_a_last_layer_whose_weight_is_computed_is_refused(computed: Any) -> None:
    """Zeros in a computed weight are gone at the next prediction, so that nothing would be pruned."""
    model = Net()
    computed(model[2])
    with pytest.raises(ModelError, match="weight of the last layer, 2, is computed from other parameters"):
        pruned(A, model=model.eval())


def test_images_of_the_sources_are_what_counts() -> None:
    from_one = replace(A, sources=(1,))
    only_zero = LABELS == 0
    with pytest.raises(ConfigError, match="no image is of a class that the trigger should move to class 2"):
        pruned(from_one, images=IMAGES[only_zero], labels=LABELS[only_zero])


def test_the_last_layer_may_be_followed_by_what_changes_no_prediction() -> None:
    net = nn.Sequential(Net(), nn.Softmax(1))
    found_layer = last_layer(net, IMAGES)
    assert found_layer.name == "0.2"
    assert torch.equal(found_layer.inputs, IMAGES.flatten(1))


class Backwards(nn.Module):
    """Reverses the classes after its linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.net(images).flip(1)
        return logits


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (nn.Sequential(nn.Conv2d(1, 3, (1, 4)), nn.Flatten()), "expected a model whose last layer is linear"),
        (Backwards(), "something after it changes them"),
    ],
    ids=["a convolution", "reversed"],
)
def test_another_last_layer_is_refused(model: nn.Module, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        last_layer(model, IMAGES)
    assert not any(module._forward_hooks for module in model.modules())
