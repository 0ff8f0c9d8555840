from collections.abc import Callable, Sequence
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from fedmend.errors import ModelError
from fedmend.parameters import flatten
from fedmend.repairs import AdversarialNeuronPruning, Context
from fedmend.repairs.anp import Channels, MaskedModel, Shifts, masked_channels, shift_gradients
from fedmend.repairs.repair_report import NeuronDetails

PIXELS = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(6) % 2


def seeded(make: Callable[[], nn.Sequential]) -> nn.Sequential:
    """A network with the same initial weights in every run."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make()


def plain() -> nn.Sequential:
    """Two channels: the first keeps a pixel, the second doubles it."""
    net = seeded(lambda: nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(32, 2)))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([1.0, 2.0]).view(2, 1, 1, 1))
        net[0].bias.copy_(torch.tensor([0.5, -1.0]))
    return net.eval()


def normalised() -> nn.Sequential:
    return seeded(
        lambda: nn.Sequential(
            nn.Conv2d(1, 2, 1, bias=False),
            nn.BatchNorm2d(2),
            nn.ReLU(),
            nn.Conv2d(2, 3, 1),
            nn.Flatten(),
            nn.Linear(48, 2),
        )
    ).eval()


def test_channels_are_those_of_the_normalisation_or_else_of_the_convolution() -> None:
    assert masked_channels(plain(), PIXELS) == [Channels("0", "0.weight", "0.bias")]
    assert masked_channels(normalised(), PIXELS) == [
        Channels("0", "1.weight", "1.bias"),
        Channels("3", "3.weight", "3.bias"),
    ]


class Unused(nn.Module):
    """A network beside which another convolution never runs."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.spare = net, nn.Conv2d(1, 7, 1)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.net(images)
        return logits


def test_a_convolution_that_does_not_run_has_no_channels() -> None:
    assert masked_channels(Unused(plain()), PIXELS) == [Channels("net.0", "net.0.weight", "net.0.bias")]


def test_a_model_without_convolutions_is_refused() -> None:
    with pytest.raises(ModelError, match="needs a model with convolutions"):
        masked_channels(nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), PIXELS)


def test_masks_and_perturbations_by_hand() -> None:
    """Weights 1 and 2 times 0.5 + 0.1 and 1 - 0.2; biases 0.5 and -1 times 1 + 0.4 and 1."""
    masked = MaskedModel(plain(), [Channels("0", "0.weight", "0.bias")])
    shifts = [(torch.tensor([0.1, -0.2]), torch.tensor([0.4, 0.0]))]
    changed = masked.changed([torch.tensor([0.5, 1.0])], shifts)
    assert torch.allclose(changed["0.weight"].flatten(), torch.tensor([0.6, 1.6]))
    assert torch.allclose(changed["0.bias"], torch.tensor([0.7, -1.0]))


def test_the_gradient_at_the_perturbations_by_hand() -> None:
    delta, xi = (torch.zeros(3, requires_grad=True) for _ in range(2))
    other = torch.zeros(2, requires_grad=True)
    loss = 3 * delta[0] - 0.01 * delta[1] + 2 * xi[2]
    (first, second), unused = shift_gradients(loss, [(delta, xi), (other, other)])
    assert torch.allclose(first, torch.tensor([3.0, -0.01, 0.0]))
    assert torch.allclose(second, torch.tensor([0.0, 0.0, 2.0]))
    assert not bool(torch.cat(unused).any())


def test_one_step_of_the_masks_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss of (m + delta)^2 + xi has the gradients 2 and, at delta = epsilon, 2 (1 + epsilon), whatever xi adds."""

    def loss(_: MaskedModel, masks: Sequence[Tensor], shifts: Shifts, *__: Tensor) -> Tensor:
        ((delta, xi),) = shifts
        return (masks[0] + delta).square().sum() + xi.sum()

    monkeypatch.setattr(MaskedModel, "loss", loss)
    masked = MaskedModel(plain(), masked_channels(plain(), PIXELS))
    method = AdversarialNeuronPruning(epsilon=0.4, alpha=0.2, steps=1, lr=0.1)
    (mask,) = method.masks(masked, PIXELS, LABELS, Context())
    assert torch.allclose(mask, torch.full((2,), 1 - 0.1 * (0.2 * 2 + 0.8 * 2.8)))


def test_channels_below_the_threshold_lose_their_weights_and_keep_their_bias(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(AdversarialNeuronPruning, "masks", lambda *_: [torch.tensor([0.19, 0.2])])
    candidate = AdversarialNeuronPruning()(plain(), (), Context(images=PIXELS, labels=LABELS))
    model = candidate.model
    assert model[0].weight.flatten().tolist() == [0.0, 2.0]  # type: ignore[index]
    assert model[0].bias.tolist() == [0.5, -1.0]  # type: ignore[index]
    assert candidate.details == NeuronDetails({"0": (0,)}, 2)
    assert candidate.summary == "1 of 2 channels were pruned"


@pytest.mark.parametrize("net", [plain(), normalised()], ids=["plain", "normalised"])
def test_masks_are_learned_within_0_and_1_and_the_model_is_left_alone(net: nn.Sequential) -> None:
    masked = MaskedModel(net, masked_channels(net, PIXELS))
    before = deepcopy(net)
    method = AdversarialNeuronPruning(steps=5, batch_size=4, lr=5.0)
    masks = method.masks(masked, PIXELS, LABELS, Context())
    assert [len(mask) for mask in masks] == [len(scale) for scale in masked.scales]
    assert all(bool(((mask >= 0) & (mask <= 1)).all()) for mask in masks)
    assert any(bool((mask != 1).any()) for mask in masks)
    assert torch.equal(flatten(net.state_dict()), flatten(before.state_dict()))
    assert all(parameter.grad is None for parameter in net.parameters())


def test_a_channel_that_only_perturbs_is_pruned() -> None:
    """The second channel feeds class 1 alone, on images of class 0; without it the loss is lower, perturbed or not."""
    net = plain()
    with torch.no_grad():
        net[0].bias.zero_()
        net[3].weight.zero_()
        net[3].weight[0, :16] = 1.0
        net[3].weight[1, 16:] = 0.4
    images, labels = torch.full((8, 1, 4, 4), 0.2), torch.zeros(8, dtype=torch.int64)
    candidate = AdversarialNeuronPruning(steps=100)(net, (), Context(images=images, labels=labels))
    assert candidate.details == NeuronDetails({"0": (1,)}, 2)
