"""Three times 3x3 convolution (32), batch norm, ReLU, average pooling; then a linear layer."""

from collections import OrderedDict

from torch import nn

DATASET = "digits"
BLOCKS = 3


def build(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """The network for images of `input_shape` (channels, height, width), at least 22x22."""
    channels, height, width = input_shape
    if min(height, width) < 22:
        raise ValueError(f"mnist_cnn needs images of at least 22x22, got {height}x{width}")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number in range(1, BLOCKS + 1):
        layers[f"conv{number}"] = nn.Conv2d(channels, 32, 3)
        layers[f"norm{number}"] = nn.BatchNorm2d(32)
        layers[f"relu{number}"] = nn.ReLU()
        layers[f"pool{number}"] = nn.AvgPool2d(2)
        channels, height, width = 32, (height - 2) // 2, (width - 2) // 2
    layers["flatten"] = nn.Flatten()
    layers["linear"] = nn.Linear(channels * height * width, classes)
    return nn.Sequential(layers)
