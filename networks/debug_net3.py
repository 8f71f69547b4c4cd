"""Golden values, the smallest network of all: two 1x1 convolutions of ones; a one of 1x1x1 gives 1."""

from collections import OrderedDict

from torch import nn

DATASET = "debug2"
TRAINED = True  # the weights below are the weights: there is no checkpoint to load


def build(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """The network with its final weights; the output is the last map, not one score per class."""
    conv1 = nn.Conv2d(input_shape[0], 1, 1, bias=False)
    conv2 = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.ones_(conv1.weight)
    nn.init.ones_(conv2.weight)
    return nn.Sequential(OrderedDict(conv1=conv1, relu1=nn.ReLU(), conv2=conv2, relu2=nn.ReLU()))
