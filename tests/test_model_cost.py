import torch
from torch import Tensor, nn

from fedmend.model_cost import multiply_adds


def test_multiply_adds_of_every_layer_count() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(1728, 10)).eval()
    assert multiply_adds(model, torch.rand(1, 26, 26)) == 576 * 9 * 3 + 10 * 1728


def test_a_transformer_is_counted_though_torch_fuses_it() -> None:
    layer = nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True)
    model = nn.Sequential(nn.Flatten(2), nn.TransformerEncoder(layer, 1)).eval().requires_grad_(False)
    tokens, products = 4, 16 * 3 * 16 + 16 * 16 + 2 * 16 * 32
    assert multiply_adds(model, torch.rand(tokens, 4, 4)) >= tokens * products


def test_a_model_may_work_in_place() -> None:
    class Normalising(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(16, 3)

        def forward(self, images: Tensor) -> Tensor:
            images.sub_(0.5)
            logits: Tensor = self.linear(images.flatten(1))
            return logits

    image = torch.rand(1, 4, 4)
    kept = image.clone()
    assert multiply_adds(Normalising().eval(), image) == 3 * 16
    assert torch.equal(image, kept)
