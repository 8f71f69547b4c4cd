"""A network with two inputs of different shape and unit, and its data: a file that `convert ./two.py` takes.

An image goes through a convolution, a vector through a linear layer; `build` joins them by concat, `Joined`
by a sum too.
"""

import torch
from torch import nn

IMAGE, VECTOR, CLASSES = (1, 4, 4), (5,), 3


class Joined(nn.Module):
    """A branch for each input, and what they say together."""

    def __init__(self, join="concat"):
        super().__init__()
        self.join = join
        self.conv = nn.Conv2d(1, 2, 3, padding=1)
        self.pool = nn.AvgPool2d(2)
        self.linear = nn.Linear(5, 8)
        self.last = nn.Linear(16 if join == "concat" else 8, CLASSES)

    def forward(self, image, vector):
        """Class scores."""
        seen = self.pool(torch.relu(self.conv(image))).flatten(1)
        felt = torch.relu(self.linear(vector))
        return self.last(torch.cat([seen, felt], 1) if self.join == "concat" else torch.relu(seen + felt))


def network(join="concat"):
    """Random weights, the same ones always."""
    torch.manual_seed(4)
    return Joined(join).eval()


def samples(count, seed=0):
    """Images in 0..1 and vectors of both signs up to 20, by the names of the network's arguments."""
    draw = torch.Generator().manual_seed(seed)
    image, vector = (torch.rand(count, *shape, generator=draw) for shape in (IMAGE, VECTOR))
    return {"image": image, "vector": vector * 40 - 20}


def labelled(count, seed=0, join="concat"):
    """Samples in the order of the arguments, and the classes that the network itself gives."""
    x = samples(count, seed)
    with torch.no_grad():
        return (x["image"], x["vector"]), network(join)(**x).argmax(1)


TRAINED = True


def build(input_shape, classes):
    """What the command line asks for."""
    assert (input_shape, classes) == ((IMAGE, VECTOR), CLASSES), input_shape
    return network()


def load():
    """The dataset of the command line."""
    return (*labelled(60, seed=1), *labelled(20, seed=2))
