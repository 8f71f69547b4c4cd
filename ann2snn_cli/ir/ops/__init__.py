"""What a node can compute. All that an op means stands in its class, one module a family.

    moves      Reshape Permute Gather Concat                they move values and change none
    synapses   Conv Linear Scale Add (BatchNorm)            they multiply and add
    pools      AvgPool MaxPool
    neurons    Relu IntegrateFire Integrate                 where currents end; biases live here
    population Neuron                                       base of neurons of a user's own
    opaque     Opaque                                       any other operator, on real numbers
    input      Input                                        the sample

`base.py` has the questions that stages and engines ask. A new op is a class that answers those it can (the
others refuse in words) and its name in a call of `register`.
"""

from ann2snn_cli.ir.ops.base import (
    FLOAT_BITS,
    OPS,
    Activity,
    Held,
    Op,
    Place,
    is_registered,
    map_tensors,
    named_tensors,
    register,
)
from ann2snn_cli.ir.ops.input import Input
from ann2snn_cli.ir.ops.moves import Concat, Gather, Move, Permute, Reshape
from ann2snn_cli.ir.ops.neurons import Integrate, IntegrateFire, Relu, own_neuron
from ann2snn_cli.ir.ops.opaque import BatchSize, Opaque, Ref
from ann2snn_cli.ir.ops.pools import AvgPool, MaxPool
from ann2snn_cli.ir.ops.population import Neuron, Population
from ann2snn_cli.ir.ops.synapses import Add, BatchNorm, Conv, Linear, Scale, Synapse, per_channel

register(Input, Conv, Linear, Scale, BatchNorm, Add, Concat, AvgPool, MaxPool, Reshape, Permute, Gather)
register(Relu, Integrate, IntegrateFire, Opaque)

__all__ = [
    "FLOAT_BITS",
    "OPS",
    "Activity",
    "Add",
    "AvgPool",
    "BatchNorm",
    "BatchSize",
    "Concat",
    "Conv",
    "Gather",
    "Held",
    "Input",
    "Integrate",
    "IntegrateFire",
    "Linear",
    "MaxPool",
    "Move",
    "Neuron",
    "Op",
    "Opaque",
    "Permute",
    "Place",
    "Population",
    "Ref",
    "Relu",
    "Reshape",
    "Scale",
    "Synapse",
    "is_registered",
    "map_tensors",
    "named_tensors",
    "own_neuron",
    "per_channel",
    "register",
]
