"""The papers' networks, and how to build a model from an architecture's name.

A model takes pixels in [0, 1], float (N, C, H, W), and returns logits (N, classes); normalisation is its
first layer. An architecture always comes from the user, never from a model file.
"""

from fedmend.models.adapting import adapt
from fedmend.models.build import build_model, channels_last, probe
from fedmend.models.conv_net import ConvNet, convnet
from fedmend.models.factories import ARCHITECTURES, Factory
from fedmend.models.normalization import KNOWN_NORMALIZATIONS, Normalize, normalized
from fedmend.models.residual_net import ResNet, resnet18, resnet34
from fedmend.models.three_conv_net import ThreeConv, three_conv
from fedmend.models.two_conv_net import TwoConv, two_conv_8_16, two_conv_20_50

__all__ = [
    "ARCHITECTURES",
    "KNOWN_NORMALIZATIONS",
    "ConvNet",
    "Factory",
    "Normalize",
    "ResNet",
    "ThreeConv",
    "TwoConv",
    "adapt",
    "build_model",
    "channels_last",
    "convnet",
    "normalized",
    "probe",
    "resnet18",
    "resnet34",
    "three_conv",
    "two_conv_8_16",
    "two_conv_20_50",
]
