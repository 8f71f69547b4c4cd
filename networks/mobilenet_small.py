"""A small MobileNet: depthwise separable convolutions with batch norm and ReLU6, then a linear layer."""

from collections import OrderedDict

from torch import nn

DATASET = "digits"
BLOCKS = ((32, 1), (48, 2), (48, 1), (64, 2))  # output channels, stride


def unit(channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU6."""
    conv = nn.Conv2d(channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, norm=nn.BatchNorm2d(out_channels), relu=nn.ReLU6()))


def build(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """The network for images of `input_shape` (channels, height, width), any size."""
    channels, height, width = input_shape
    layers: OrderedDict[str, nn.Module] = OrderedDict(stem=unit(channels, 16, 3, stride=2))
    channels, height, width = 16, (height + 1) // 2, (width + 1) // 2
    for number, (out_channels, stride) in enumerate(BLOCKS, start=1):
        layers[f"depthwise{number}"] = unit(channels, channels, 3, stride, groups=channels)
        layers[f"pointwise{number}"] = unit(channels, out_channels, 1)
        channels = out_channels
        height, width = (height + stride - 1) // stride, (width + stride - 1) // stride
    layers["flatten"] = nn.Flatten()
    layers["linear"] = nn.Linear(channels * height * width, classes)
    return nn.Sequential(layers)
