"""Golden values: 1x1 convolution of ones, 2x2 of 0, 1, 2, ...; ones of 1x4x4 give nine 6s and nine 22s."""

from collections import OrderedDict

import torch
from torch import nn

DATASET = "debug0"
TRAINED = True  # the weights below are the weights: there is no checkpoint to load


def build(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """The network with its final weights; the output is the last map, not one score per class."""
    conv1 = nn.Conv2d(input_shape[0], 1, 1, bias=False)
    conv2 = nn.Conv2d(1, 2, 2, bias=False)
    nn.init.ones_(conv1.weight)
    ramp(conv2)
    return nn.Sequential(OrderedDict(conv1=conv1, relu1=nn.ReLU(), conv2=conv2, relu2=nn.ReLU()))


def ramp(conv: nn.Conv2d) -> None:
    """Set the weights to 0, 1, 2, ... in memory order."""
    with torch.no_grad():
        conv.weight.copy_(torch.arange(conv.weight.numel()).view_as(conv.weight))
