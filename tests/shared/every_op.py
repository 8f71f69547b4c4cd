"""One op of every kind that is registered, and small SPIKING graphs around each of them."""

import torch

from ann2snn_cli.ir.contract import Contract
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.ops import (
    Add,
    AvgPool,
    BatchNorm,
    Concat,
    Conv,
    Gather,
    Input,
    Integrate,
    IntegrateFire,
    Linear,
    MaxPool,
    Opaque,
    Permute,
    Ref,
    Relu,
    Reshape,
    Scale,
)

MAP = (2, 4, 4)
ONE = torch.tensor(1.0, dtype=torch.float64)


def whole(*values):
    """Integers, as a chip is loaded with; one of them has no axis."""
    return torch.tensor(values if len(values) > 1 else values[0])


def codes(*shape):
    """Weights of 4 bits, all 3."""
    return torch.full(shape, 3, dtype=torch.int8)


channels = torch.ones(2)

# By name in `OPS`: the op, how many maps of shape MAP it reads, and the shape of what it makes of them.
EVERY_OP = {
    "Input": (Input(1.0), 0, MAP),
    "Conv": (Conv(codes(3, 2, 3, 3), padding=(1, 1), bits=4), 1, (3, 4, 4)),
    "Linear": (Linear(codes(5, 4), bits=4), 1, (2, 4, 5)),
    "Scale": (Scale(codes(2, 1, 1), bits=4), 1, MAP),
    "BatchNorm": (BatchNorm(channels, channels, channels, channels, 1e-5), 1, MAP),
    "Add": (Add((whole(1), whole(2))), 2, MAP),
    "Concat": (Concat(), 2, (4, 4, 4)),
    "AvgPool": (AvgPool((2, 2), (2, 2), (0, 0)), 1, (2, 2, 2)),
    "MaxPool": (MaxPool((2, 2), (2, 2), (0, 0), (1, 1)), 1, (2, 2, 2)),
    "Reshape": (Reshape(), 1, (32,)),
    "Permute": (Permute((1, 2, 0)), 1, (4, 4, 2)),
    "Gather": (Gather(torch.tensor([[-1, 0, 31]])), 1, (1, 3)),
    "Relu": (Relu(clip=ONE), 1, MAP),
    "Integrate": (Integrate(whole(1), whole(2)), 1, MAP),
    "IntegrateFire": (IntegrateFire(whole(3), whole(1), whole(1)), 1, MAP),
    "Opaque": (Opaque("aten.sigmoid.default", (Ref(0),)), 1, MAP),
}


def around(name):
    """input -> neurons -> the op, as the layer "net.this" -> neurons. SPIKING, three steps."""
    op, reads, shape = EVERY_OP[name]
    nodes = [
        ("x", Input(1.0), (), MAP),
        ("n", IntegrateFire(whole(200), whole(0), whole(0)), ("x",), MAP),
        ("this", op, ("n",) * reads, shape),
        ("last", IntegrateFire(whole(2), whole(0), whole(0)), ("this",), shape),
    ]
    made = tuple(Node(*node, f"net.{node[0]}", ONE) for node in nodes)
    return Graph(made, ("last",), Level.SPIKING, Contract(3))
