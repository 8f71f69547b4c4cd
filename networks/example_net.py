"""Three 3x3 convolutions (8, 16, 28 channels), average pooling, linear: fits hardware v1 at 4 bits."""

from collections import OrderedDict

from torch import nn

DATASET = "digits"
HARDWARE = "v1"
WIDTHS = (8, 16, 28)  # hardware v1 takes at most 28 input channels to a 3x3 kernel at 4 bits


def build(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """The network for images of `input_shape` (channels, height, width)."""
    channels, height, width = input_shape
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, out_channels in enumerate(WIDTHS, start=1):
        layers[f"conv{number}"] = nn.Conv2d(channels, out_channels, 3, padding=1)
        layers[f"relu{number}"] = nn.ReLU()
        if min(height, width) >= 2:  # a small image runs out of pixels to pool
            layers[f"pool{number}"] = nn.AvgPool2d(2)
            height, width = height // 2, width // 2
        channels = out_channels
    layers["flatten"] = nn.Flatten()
    layers["linear"] = nn.Linear(channels * height * width, classes)
    return nn.Sequential(layers)
