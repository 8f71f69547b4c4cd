"""Small SPIKING graphs with random ops, whose neurons neither sleep nor fire at every step."""

from dataclasses import replace
from math import prod

import numpy as np
import oracle
import torch

from ann2snn_cli.ir.contract import Contract, Reset, Rounding
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.ops import (
    FLOAT_BITS,
    Add,
    AvgPool,
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
    Reshape,
    Scale,
    Synapse,
)


class Growing:
    """A graph that grows node by node; what its nodes make of some samples is known at once."""

    def __init__(self, seed, axes):
        self.random = np.random.default_rng(seed)
        self.axes = axes
        reset_mode, rounding = (self.random.choice(list(kind)) for kind in (Reset, Rounding))
        steps = int(self.random.integers(1, 7))
        self.contract = Contract(
            steps, Reset(reset_mode), int(self.random.integers(0, steps + 1)), Rounding(rounding)
        )
        self.nodes, self.found, self.samples = {}, {}, {}

    def put(self, op, inputs, shape):
        """A node more, and its name."""
        name = f"{op.kind.lower()}{len(self.nodes)}"
        unit = torch.tensor(2.0 ** self.random.integers(-3, 2), dtype=torch.float64)
        node = Node(name, op, tuple(inputs), tuple(shape), f"net.{name}", unit)
        self.nodes[name] = node
        self.found[name] = oracle.play_node(self.graph(), node, self.found, self.samples, 0)
        return name

    def graph(self, *outputs):
        """All of it."""
        nodes = tuple(self.nodes.values())
        return Graph(nodes, outputs or (nodes[-1].name,), Level.SPIKING, self.contract)

    def whole(self, low, high, *shape):
        """Random integers low..high."""
        return torch.tensor(self.random.integers(low, high + 1, shape))

    def one_of(self, choices):
        """Any of them."""
        return choices[self.random.integers(len(choices))]

    def maps(self):
        """The names of what has channels and axes."""
        return [name for name, node in self.nodes.items() if len(node.shape) == self.axes + 1]

    def each(self, low, high):
        """A number for every axis."""
        return tuple(int(number) for number in self.random.integers(low, high + 1, self.axes))

    # one kind of node each: from a map to a new one

    def input(self, shape):
        """Integers of either sign or of one, with a few samples to try."""
        low = -int(self.random.integers(0, 9))
        return self.put_input(Input(0.5, low, 9), shape)

    def put_input(self, op, shape):
        """An input's samples have to be there first."""
        self.samples[f"input{len(self.nodes)}"] = self.random.uniform(-6, 6, (3, *shape))
        return self.put(op, (), shape)

    def conv(self, x):
        """Strides, padding, dilation and groups."""
        ins, *before = self.nodes[x].shape
        kernel, stride, padding, dilation = (self.each(*ends) for ends in ((1, 3), (1, 2), (0, 1), (1, 2)))
        groups = self.one_of([g for g in (1, 2, 3) if ins % g == 0])
        outs = groups * int(self.random.integers(1, 3))
        after = [
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip(before, kernel, stride, padding, dilation, strict=True)
        ]
        if min(after) < 1:
            return x
        weight = self.whole(-7, 7, outs, ins // groups, *kernel).to(torch.int8)
        return self.put(Conv(weight, None, stride, padding, dilation, groups, bits=4), (x,), (outs, *after))

    def up(self, x):
        """The same transposed."""
        ins, *before = self.nodes[x].shape
        kernel, stride, dilation = (self.each(*ends) for ends in ((1, 3), (1, 2), (1, 2)))
        padding = tuple(int(self.random.integers(0, min(2, k))) for k in kernel)
        more = tuple(int(self.random.integers(0, max(s, d))) for s, d in zip(stride, dilation, strict=True))
        groups = self.one_of([g for g in (1, 2, 3) if ins % g == 0])
        each = int(self.random.integers(1, 3))
        after = [
            (n - 1) * s - 2 * p + d * (k - 1) + m + 1
            for n, k, s, p, d, m in zip(before, kernel, stride, padding, dilation, more, strict=True)
        ]
        if min(after) < 1 or max(after) > 8:
            return x
        weight = self.whole(-7, 7, ins, each, *kernel).to(torch.int8)
        op = Conv(weight, None, stride, padding, dilation, groups, True, more, bits=4)
        return self.put(op, (x,), (groups * each, *after))

    def scale(self, x):
        """A weight a channel."""
        shape = self.nodes[x].shape
        weight = self.whole(-7, 7, shape[0], *[1] * self.axes).to(torch.int8)
        return self.put(Scale(weight, bits=4), (x,), shape)

    def add(self, x):
        """With any map of the same shape, itself as well."""
        shape = self.nodes[x].shape
        others = [name for name in self.maps() if self.nodes[name].shape == shape]
        weights = (self.whole(1, 9), self.whole(1, 9, shape[0], *[1] * self.axes))
        return self.put(Add(weights), (x, self.one_of(others)), shape)

    def concat(self, x):
        """With any map of the same extent."""
        channels, *extent = self.nodes[x].shape
        others = [name for name in self.maps() if list(self.nodes[name].shape[1:]) == extent]
        other = self.one_of(others)
        return self.put(Concat(), (x, other), (channels + self.nodes[other].shape[0], *extent))

    def pool(self, x):
        """An average, whose integers are sums."""
        return self._pooled(x, lambda *geometry: AvgPool(*geometry[:3]), dilated=False)

    def largest(self, x):
        """A maximum."""
        return self._pooled(x, MaxPool, dilated=True)

    def _pooled(self, x, op, *, dilated):
        channels, *before = self.nodes[x].shape
        kernel, stride = self.each(1, 3), self.each(1, 2)
        dilation = self.each(1, 2) if dilated else (1,) * self.axes
        padded = int(self.random.integers(0, 2)) * (max(dilation) == 1)  # no window of padding alone
        padding = tuple(k // 2 * padded for k in kernel)
        after = [
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip(before, kernel, stride, padding, dilation, strict=True)
        ]
        if min(after) < 1:
            return x
        return self.put(op(kernel, stride, padding, dilation), (x,), (channels, *after))

    def permute(self, x):
        """The axes turned around."""
        shape = self.nodes[x].shape
        order = tuple(int(axis) for axis in self.random.permutation(len(shape)))
        return self.put(Permute(order), (x,), [shape[axis] for axis in order])

    def gather(self, x):
        """Any selection, with zeros among it."""
        shape = self.nodes[x].shape
        return self.put(Gather(self.whole(-1, prod(shape) - 1, *shape)), (x,), shape)

    def carry(self, x):
        """Neurons that never fire, in the middle."""
        shape = self.nodes[x].shape
        bias, initial = (self.whole(-5, 5, shape[0], *[1] * self.axes) for _ in range(2))
        return self.put(Integrate(bias, initial), (x,), shape)

    def fire(self, x):
        """Neurons whose thresholds suit what comes in."""
        shape = self.nodes[x].shape
        channels = (shape[0], *[1] * (len(shape) - 1))
        bits = int(self.random.integers(0, 3))
        usual = np.abs(self.found[x].train).mean() * 2**bits
        low, high = max(1, int(usual / 2)), max(2, int(usual * 3))
        op = IntegrateFire(
            self.whole(low, high, *channels), self.whole(-low // 2, low, *channels),
            self.whole(-low, high, *channels), bits,
        )  # fmt: skip
        return self.put(op, (x,), shape)

    def sigmoid(self, x):
        """An opaque node and the neurons behind it."""
        op = Opaque("aten.sigmoid.default", (Ref(0),))
        return self.fire(self.put(op, (x,), self.nodes[x].shape))


KINDS = (
    *("conv", "up", "scale", "add", "concat", "pool", "largest", "permute", "gather", "carry"),
    *("fire", "fire", "fire"),
)


def random_graph(seed, *, opaque=False, floats=False):
    """(graph, samples by input): one input or two, ten nodes at random, a read-out and a population."""
    net = Growing(seed, axes=1 + seed % 2)
    shape = (int(net.random.integers(1, 4)), *([7] if net.axes == 1 else [4, 5]))
    x = net.input(shape)
    if seed % 3 == 0:
        x = net.put(Add((net.whole(1, 3), net.whole(1, 3))), (x, net.input(shape)), shape)
    x = net.fire(x)
    for kind in net.random.choice(KINDS, 9):
        getattr(net, kind)(x if net.random.random() < 0.6 else net.one_of(net.maps()))
        x = list(net.nodes)[-1]
    last = net.sigmoid(x) if opaque else net.fire(x)
    flat = net.put(Reshape(), (last,), (prod(net.nodes[last].shape),))
    weight = net.whole(-7, 7, 3, *net.nodes[flat].shape).to(torch.int8)
    read = net.put(Linear(weight, bits=4), (flat,), (3,))
    out = net.put(Integrate(net.whole(-5, 5, 3), net.whole(-5, 5, 3)), (read,), (3,))
    graph = net.graph(out, last)
    return (with_floats(graph) if floats else graph), net.samples


def with_floats(graph):
    """The same layers at 32 bits: factors that share nothing, so that no potential meets its threshold."""

    def floated(node):
        op = node.op
        if isinstance(op, Synapse):
            return replace(op, weight=op.weight * 0.371830297, bits=FLOAT_BITS)
        if isinstance(op, Add):
            return replace(op, weights=tuple(weight * 1.130917432 for weight in op.weights))
        if isinstance(op, IntegrateFire):
            return replace(op, threshold=op.threshold * 0.913290871, bias=op.bias * 0.831, fraction_bits=0)
        return op

    return graph.with_ops({node.name: floated(node) for node in graph})
