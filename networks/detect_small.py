"""A small one-stage detector: a grid of a cell every 4 pixels, each with a score a class and a box."""

from collections import OrderedDict

import torch
from torch import nn

DATASET = ""


def unit(channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution, batch norm, ReLU."""
    conv = nn.Conv2d(channels, out_channels, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, norm=nn.BatchNorm2d(out_channels), relu=nn.ReLU()))


def build(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """The network for images of `input_shape` (channels, height, width); it gives classes + 4 maps."""
    head = nn.Conv2d(32, classes + 4, 1)
    with torch.no_grad():
        head.bias[:classes] = -3.0  # at first a cell is unlikely to hold a centre
    return nn.Sequential(
        OrderedDict(
            unit1=unit(input_shape[0], 16, stride=2),
            unit2=unit(16, 32, stride=2),
            unit3=unit(32, 32),
            unit4=unit(32, 32),
            head=head,
        )
    )
