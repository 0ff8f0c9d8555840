"""The zoo's own networks, small enough to train on one CPU core. They take pixels in [0, 1] and return logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedmend.models import Normalize, ResNet
from fedmend.models import resnet18 as cifar_style_resnet18


def resnet18(*, num_classes: int, in_channels: int) -> ResNet:
    """The CIFAR-style ResNet18, 8 channels wide."""
    return cifar_style_resnet18(num_classes=num_classes, in_channels=in_channels, width=8)


class GroupNormBlock(nn.Module):
    """Two 3x3 convolutions with group normalisation and a shortcut, (N, C, H, W) to (N, width, H/s, W/s)."""

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, stride, 1, bias=False),
            nn.GroupNorm(4, width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.GroupNorm(4, width),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != width:
            self.shortcut = nn.Conv2d(in_channels, width, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = (self.body(x) + self.shortcut(x)).relu()
        return out


def group_norm(*, num_classes: int, in_channels: int) -> nn.Module:
    """A residual network with group normalisation: three blocks, 12 to 48 channels, after a stem of stride 2."""
    return nn.Sequential(
        Normalize(),
        nn.Conv2d(in_channels, 12, 3, stride=2, padding=1),
        nn.ReLU(),
        GroupNormBlock(12, 12, 1),
        GroupNormBlock(12, 24, 2),
        GroupNormBlock(24, 48, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(48, num_classes),
    )


def vgg(*, num_classes: int, in_channels: int, image_size: tuple[int, int]) -> nn.Module:
    """A VGG with batch normalisation: five 3x3 convolutions, four max-pools and two linear layers."""
    layers: list[nn.Module] = [Normalize()]
    before = in_channels
    for width, pooled in ((16, True), (32, True), (48, False), (48, True), (64, True)):
        layers += [nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        if pooled:
            layers.append(nn.MaxPool2d(2))
        before = width
    height, width = (side // 16 for side in image_size)
    return nn.Sequential(
        *layers,
        nn.Flatten(),
        nn.Linear(before * height * width, 128),
        nn.ReLU(),
        nn.Linear(128, num_classes),
    )


class VisionTransformer(nn.Module):
    """A small vision transformer (Dosovitskiy et al., 2021): 4x4 patches, pre-norm blocks, mean of the tokens."""

    def __init__(self, num_classes: int, in_channels: int, image_size: tuple[int, int]) -> None:
        super().__init__()
        side, dim, depth = 4, 64, 3
        tokens = (image_size[0] // side) * (image_size[1] // side)
        self.normalize = Normalize()
        self.embed = nn.Conv2d(in_channels, dim, side, stride=side)
        self.position = nn.Parameter(0.02 * torch.randn(1, tokens, dim))
        self.blocks = nn.ModuleList(AttentionBlock(dim, heads=4) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Pixels in [0, 1], float (N, C, H, W) of the size given when built, to logits (N, classes)."""
        x = self.embed(self.normalize(images)).flatten(2).transpose(1, 2) + self.position
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x).mean(1))
        return logits


class AttentionBlock(nn.Module):
    """Self-attention and a two-layer network, each after a LayerNorm and with a shortcut, (N, T, D) to the same."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        count, tokens, dim = x.shape
        qkv = self.qkv(self.norm1(x)).view(count, tokens, 3, self.heads, dim // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        x = x + self.out(mixed.transpose(1, 2).reshape(count, tokens, dim))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


def vit(*, num_classes: int, in_channels: int, image_size: tuple[int, int]) -> VisionTransformer:
    """A vision transformer of three blocks, 64 wide, with 4x4 patches."""
    return VisionTransformer(num_classes, in_channels, image_size)
