"""VGG-11 with batch norm as used for CIFAR: max pooling after each stage, one linear layer at the end."""

from collections import OrderedDict

from torch import nn

DATASET = "cifar10"
STAGES = ((64,), (128,), (256, 256), (512, 512), (512, 512))  # channels of each stage's convolutions


def build(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """The network for images of `input_shape` (channels, height, width)."""
    channels, height, width = input_shape
    # Five poolings need 32 pixels: the first convolution pads a smaller image (28x28) up to that.
    extra = max(0, (32 - min(height, width) + 1) // 2)
    features: list[nn.Module] = []
    for stage in STAGES:
        for out_channels in stage:
            padding = 1 if features else 1 + extra
            features += [
                nn.Conv2d(channels, out_channels, 3, padding=padding, bias=False),
                nn.BatchNorm2d(out_channels),
                nn.ReLU(),
            ]
            channels = out_channels
        features.append(nn.MaxPool2d(2))
    height, width = (height + 2 * extra) // 32, (width + 2 * extra) // 32
    classifier = nn.Linear(channels * height * width, classes)
    layers = {"features": nn.Sequential(*features), "flatten": nn.Flatten(), "classifier": classifier}
    return nn.Sequential(OrderedDict(layers))
