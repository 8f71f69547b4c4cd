"""Random FLOAT networks in which values of very different size meet: what few bits may ruin."""

from math import prod

import numpy as np
import torch
from relative import relative_error

from ann2snn_cli.errors import UnsupportedNetwork
from ann2snn_cli.ir.allowed import operator
from ann2snn_cli.ir.contract import Contract
from ann2snn_cli.ir.graph import Graph, Node
from ann2snn_cli.ir.ops import (
    Add,
    AvgPool,
    BatchNorm,
    Concat,
    Conv,
    Gather,
    Input,
    Integrate,
    Linear,
    MaxPool,
    Op,
    Permute,
    Relu,
    Reshape,
    Scale,
)
from ann2snn_cli.ir.rules import Call, Value
from ann2snn_cli.ir.run import run, run_counts
from ann2snn_cli.stages import simulate
from ann2snn_cli.stages.analyse.damage import damage
from ann2snn_cli.stages.calibrate import calibrate
from ann2snn_cli.stages.fold import fold
from ann2snn_cli.stages.quantize.weights import quantize
from ann2snn_cli.stages.threshold import threshold
from ann2snn_cli.stages.trace import BUILT_IN


class Growing:
    """A FLOAT network that grows node by node; what it makes of the samples is known at once."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.size = 10 ** self.random.uniform(-2, 2)  # how far gains may go from 1
        self.nodes, self.values = {}, {}

    def put(self, op, *inputs, shape=None):
        """A node more, and its name."""
        name = f"{op.kind.lower()}{len(self.nodes)}"
        xs = [self.values[each] for each in inputs]
        shape = tuple(op.index.shape) if isinstance(op, Gather) else shape
        if isinstance(op, Reshape) and shape is None:
            shape = (prod(xs[0].shape[1:]),)
        self.values[name] = op.real(xs, shape or ())
        self.nodes[name] = Node(name, op, inputs, tuple(self.values[name].shape[1:]), f"net.{name}")
        return name

    def shape(self, x):
        """Of one sample."""
        return self.nodes[x].shape

    def normal(self, *shape):
        """Normal numbers."""
        return torch.tensor(self.random.normal(size=shape))

    def gain(self):
        """A factor that is anything."""
        return float(self.size ** self.random.uniform(-1, 1))

    def one_of(self, choices):
        """Any of them."""
        return choices[self.random.integers(len(choices))]

    def like(self, x, *, channels=True):
        """What has the shape of x, or of x but for its channels."""
        start = 0 if channels else 1
        return [name for name in self.nodes if self.shape(name)[start:] == self.shape(x)[start:]
                and len(self.shape(name)) == len(self.shape(x))]  # fmt: skip

    # one kind of node each

    def conv(self, x, *, transposed=False):
        """Kernels of 1 or 3 that keep the extent, in groups or not."""
        ins, size = self.shape(x)[0], int(self.one_of([1, 3]))
        groups = int(self.one_of([g for g in (1, 2, 4) if ins % g == 0]))
        outs = groups * int(self.random.integers(1, 4))
        shape = (ins, outs // groups) if transposed else (outs, ins // groups)
        weight = self.normal(*shape, size, size) * self.gain() / (ins // groups * size**2) ** 0.5
        bias = self.normal(outs) * 0.1 if self.random.random() < 0.7 else None
        padding = (size // 2,) * 2
        return self.put(Conv(weight, bias, (1, 1), padding, (1, 1), groups, transposed), x)

    def up(self, x):
        """The same transposed."""
        return self.conv(x, transposed=True)

    def linear(self, x):
        """Along the last axis."""
        ins, outs = self.shape(x)[-1], int(self.random.integers(3, 9))
        weight = self.normal(outs, ins) * self.gain() / ins**0.5
        return self.put(Linear(weight, self.normal(outs) * 0.1), x)

    def norm(self, x):
        """A batch norm whose statistics fit, with any gain."""
        value = self.values[x].transpose(0, 1).flatten(1)
        mean, var = value.mean(1), value.var(1)
        gain = self.normal(len(mean)).abs() * self.gain() + 0.05
        return self.put(BatchNorm(gain, self.normal(len(mean)) * 0.3, mean, var, 1e-5), x)

    def scale(self, x):
        """A factor a channel."""
        shape = (self.shape(x)[0], *[1] * (len(self.shape(x)) - 1))
        return self.put(Scale(self.normal(*shape) * self.gain()), x)

    def bias(self, x):
        """A constant added to every value: a position embedding."""
        return self.put(Integrate(self.normal(*self.shape(x)) * self.gain()), x)

    def relu(self, x):
        """A population."""
        return self.put(Relu(6.0 if self.random.random() < 0.1 else None), x)

    def add(self, x):
        """A residual."""
        return self.put(Add(), x, self.one_of(self.like(x)))

    def concat(self, x):
        """Branches side by side."""
        other = self.one_of(self.like(x, channels=False))
        return self.put(Concat(), x, other) if self.shape(x)[0] + self.shape(other)[0] <= 16 else x

    def permute(self, x):
        """Axes turned around."""
        return self.put(Permute(tuple(int(a) for a in self.random.permutation(len(self.shape(x))))), x)

    def gather(self, x):
        """A token put before the others: zeros, to which constants are added."""
        index = torch.arange(prod(self.shape(x))).reshape(self.shape(x))
        first = torch.full_like(index[:1], -1)
        return self.bias(self.put(Gather(torch.cat([first, index])), x)) if len(index) < 12 else x

    def call(self, target, x, *others, **settings):
        """What a built-in rule makes of a call of its torch operator."""
        values = [Value(self.shape(each)) for each in (x, *others)]
        given = dict(zip(("self", "other"), values, strict=False)) | settings
        result = self.call_shape(target, x, *others, **settings)
        call = Call(target, given, Value(result))
        outcome, homes = BUILT_IN[target](call), dict(zip(values, (x, *others), strict=True))
        if isinstance(outcome, Op):
            return self.put(outcome, *(homes[each] for each in call.inputs))
        for added in call.added:
            homes[added.value] = self.put(
                added.op, *(homes[each] for each in added.inputs), shape=added.value.shape
            )
        return homes[outcome]

    def call_shape(self, target, *inputs, **settings):
        """The shape of a sample of what torch gives."""
        result = operator(target)(*(self.values[each] for each in inputs), **settings)
        return tuple(result.shape[1:])

    def less(self, x):
        """A difference."""
        return self.call("aten.sub.Tensor", x, self.one_of(self.like(x)), alpha=1)

    def larger(self, x):
        """The maximum of two."""
        return self.call("aten.maximum.default", x, self.one_of(self.like(x)))

    def leaky(self, x):
        """A slope below zero too."""
        return self.call("aten.leaky_relu.default", x, negative_slope=float(self.random.uniform(-1, 1)))

    def slopes(self, x):
        """One for each channel."""
        return self.call("aten.prelu.default", x, weight=self.normal(self.shape(x)[0]))

    def between(self, x):
        """Clipped at both ends, which lie within what there is."""
        low, high = (float(self.values[x].quantile(share)) for share in (0.1, 0.9))
        return self.call("aten.hardtanh.default", x, min_val=low, max_val=high) if low < high else x

    def factor(self, x):
        """One for all values, of any sign."""
        return self.call("aten.mul.Tensor", x, other=self.gain() * float(self.one_of([-1, 1])))

    def border(self, x):
        """A constant around the map."""
        if max(self.shape(x)[1:]) > 8:
            return x
        return self.call("aten.constant_pad_nd.default", x, pad=[1, 0, 0, 1], value=self.gain())

    def uneven(self, x):
        """Windows that differ in size."""
        if min(self.shape(x)[1:]) < 4:
            return x
        return self.call("aten.adaptive_avg_pool2d.default", x, output_size=[3, 4])

    def edge(self, x):
        """Windows at the border that hold fewer values."""
        settings = {"kernel_size": [3], "stride": [2], "padding": [1], "ceil_mode": True}
        return self.call(
            "aten.avg_pool2d.default", x, **settings, count_include_pad=False, divisor_override=None
        )

    def resize(self, x):
        """Values between others."""
        sizes = {"output_size": [7, 5], "align_corners": False, "scale_factors": None}
        return self.call("aten.upsample_bilinear2d.vec", x, **sizes)

    def most_of(self, x):
        """The largest of an axis, kept."""
        axis = int(self.random.integers(1, len(self.shape(x)) + 1))
        return self.call("aten.amax.default", x, dim=[axis], keepdim=True)

    def mean(self, x):
        """Average pooling."""
        return self._pooled(x, AvgPool)

    def most(self, x):
        """Max pooling."""
        return self._pooled(x, lambda *geometry: MaxPool(*geometry, (1, 1)))

    def _pooled(self, x, op):
        if len(self.shape(x)) != 3 or min(self.shape(x)[1:]) < 4:
            return x
        return self.put(op((2, 2), (2, 2), (0, 0)), x)


MAPS = ("conv", "conv", "up", "norm", "mean", "most")
ANY = ("linear", "scale", "bias", "relu", "relu", "add", "concat", "concat", "permute", "gather")
MORE_MAPS = ("border", "uneven", "edge", "resize")  # forms that rules make of torch operators
MORE = ("less", "larger", "leaky", "slopes", "between", "factor", "most_of")


def random_network(seed, nodes=9, forms=False):
    """(a FLOAT graph, 48 samples): maps or rows of features, then all of it flattened into a last layer.

    With `forms` half of it is made by rules of torch operators.
    """
    net = Growing(seed)
    shape = (int(net.random.integers(1, 5)), *([6, 6] if seed % 3 else [8]))
    samples = torch.tensor(net.random.uniform(0, 1, (48, *shape)))
    net.nodes["x"], net.values["x"] = Node("x", Input(), (), shape, "net.x"), samples
    x = "x"
    for _ in range(nodes):
        more = forms and net.random.random() < 0.5
        maps, rest = (MORE_MAPS, MORE) if more else (MAPS, ANY)
        kind = net.one_of(maps + rest if len(net.shape(x)) == 3 else rest)
        alike = [name for name in net.nodes if len(net.shape(name)) == len(net.shape(x))]
        source = x if net.random.random() < 0.7 else net.one_of(alike)
        x = getattr(net, kind)(source)
        if x == "x" or len(net.shape(x)) == 1:
            x = net.relu("x")
    flat = net.put(Reshape(), x)
    last = net.linear(flat)
    used = _used(net.nodes, last)
    graph = Graph(tuple(node for node in net.nodes.values() if node.name in used), (last,))
    assert torch.equal(run(graph, samples)[0], net.values[last])
    return graph, samples


def _used(nodes, name):
    """The names of all that leads to a node."""
    found = {name, "x"}
    for each in nodes[name].inputs:
        found |= _used(nodes, each)
    return found


# What becomes of one in few bits -------------------------------------------------------------------

TIMESTEPS = 128
RIGHT, BAD = 0.05, 0.25  # relative errors of what varies between samples


def judged(seed, bits=8, forms=False):
    """(what becomes of the network of this seed in so many bits, what the damage report says)."""
    graph, x = random_network(seed, forms=forms)
    wanted = run(graph, x)[0]
    if float((wanted - wanted.mean(0)).norm()) < 1e-9 * float(wanted.norm()):
        return "constant", ""
    folded = fold(graph)
    calibrated = calibrate(folded, [x], mode="max", timesteps=TIMESTEPS)
    if not _error(_converted(calibrated, 32), x, wanted) < RIGHT:
        return "not right in floats", ""
    try:
        spiking = _converted(calibrated, bits, channel_wise=seed % 2 == 1)
    except UnsupportedNetwork as refused:
        return "refused", f"{refused.what} ({refused.where})"
    if _error(spiking, x, wanted) <= BAD:
        return "fine", ""
    report = damage(folded, spiking, [x], simulate.run)
    said = report.is_large and report.layer
    return ("bad, and said" if said else "bad, and SILENT"), str(report)


def _converted(calibrated, bits, channel_wise=False):
    contract = Contract(TIMESTEPS, delay=TIMESTEPS)
    return threshold(quantize(calibrated, contract, weight_bitwidth=bits, channel_wise=channel_wise))


def _error(spiking, x, wanted):
    return relative_error(run_counts(spiking, x.double())[0], wanted)
