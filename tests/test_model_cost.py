import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fedmend.model_cost import multiply_adds
from fedmend.models import build_model


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


@pytest.mark.parametrize("architecture", ["convnet", "resnet18", "two-conv-20-50"])
def test_they_are_those_of_torchs_counter(architecture: str) -> None:
    model = build_model(architecture, num_classes=10, in_channels=3, image_size=(32, 32), seed=0).eval()
    image = torch.rand(3, 32, 32)
    with FlopCounterMode(display=False) as counter:
        model(image[None].requires_grad_())
    assert multiply_adds(model, image) == counter.get_total_flops() // 2 > 0


def test_counting_does_not_import_torchs_compiler() -> None:
    program = (
        "import sys, torch\n"
        "from fedmend.model_cost import multiply_adds\n"
        "assert multiply_adds(torch.nn.Linear(3, 2), torch.rand(1, 3)) == 6\n"
        "assert 'torch._dynamo' not in sys.modules\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
