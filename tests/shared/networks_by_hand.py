"""Networks in memory with random parameters, one around every kind of layer, and what numpy makes of them."""

from dataclasses import replace
from math import prod

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from ann2snn_cli.twins import replay
from ann2snn_cli.twins.replay import Activity


class Hand:
    """A network in memory that grows layer by layer, with random parameters."""

    def __init__(self, shape, contract=(), *, bits=8, encoding="unsigned", seed=0):
        self.random = np.random.default_rng(seed)
        self.contract = {"timesteps": 5, "reset_mode": "subtraction", "delay": 0}
        self.contract |= {"comparator": ">=", "order": "integrate, compare, reset"} | dict(contract)
        self.layers, self.arrays, self.outputs = [], {}, []
        self._put("input", shape, bits=bits, encoding=encoding, unit=0.5)

    def _put(self, kind, shape, *inputs, parameters=(), per=None, **fields):
        name = kind if kind == "input" else f"{kind}.{len(self.layers)}"
        entries = {}
        for role, values in dict(parameters).items():
            self.arrays[name, role] = values = np.asarray(values, np.int64)
            entries[role] = {"shape": list(values.shape), "bits": 8} | ({"per": per} if per else {})
        layer = {
            "name": name,
            "file_name": name,
            "source": f"net.{name}",
            "kind": kind,
            "parameters": entries,
        }
        self.layers.append(layer | {"inputs": list(inputs), "shape": list(shape), **fields})
        return name

    def shape(self, name):
        """A layer's shape."""
        return next(tuple(layer["shape"]) for layer in self.layers if layer["name"] == name)

    def whole(self, low, high, *shape):
        """Random integers low..high."""
        return self.random.integers(low, high + 1, shape)

    def _windows(self, x, kernel, stride, padding, dilation, ceil=0):
        sizes = zip(self.shape(x)[1:], kernel, stride, padding, dilation, strict=True)
        return [(n + 2 * p - d * (k - 1) - 1 + ceil * (s - 1)) // s + 1 for n, k, s, p, d in sizes]

    def conv(self, x, out, kernel, stride=1, padding=0, dilation=1, groups=1, largest=7):
        """A convolution; numbers count for every axis."""
        stride, padding, dilation = ([each] * len(kernel) for each in (stride, padding, dilation))
        weight = self.whole(-largest, largest, out, self.shape(x)[0] // groups, *kernel)
        shape = [out, *self._windows(x, kernel, stride, padding, dilation)]
        fields = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        return self._put("conv", shape, x, parameters={"weight": weight}, kernel=list(kernel), **fields)

    def up(self, x, out, kernel, stride=2, padding=0, dilation=1, groups=1, more=0):
        """A transposed convolution."""
        sizes = self.shape(x)
        weight = self.whole(-7, 7, sizes[0], out // groups, *kernel)
        spatial = [
            (n - 1) * stride - 2 * padding + dilation * (k - 1) + more + 1
            for n, k in zip(sizes[1:], kernel, strict=True)
        ]
        names = {"stride": stride, "padding": padding, "dilation": dilation, "output_padding": more}
        fields = {name: [each] * len(kernel) for name, each in names.items()} | {"groups": groups}
        shape = [out, *spatial]
        return self._put(
            "conv_transpose", shape, x, parameters={"weight": weight}, kernel=list(kernel), **fields
        )

    def linear(self, x, out, largest=7):
        """A linear layer along the last axis."""
        *lead, last = self.shape(x)
        return self._put(
            "linear", [*lead, out], x, parameters={"weight": self.whole(-largest, largest, out, last)}
        )

    def _per(self, shape, per, low, high):
        shapes = {"layer": [1], "channel": shape[:1], "neuron": shape}
        return self.whole(low, high, *shapes[per])

    def scale(self, x, per):
        """Value by value."""
        shape = self.shape(x)
        return self._put("scale", shape, x, parameters={"weight": self._per(shape, per, -9, 9)}, per=per)

    def add(self, *xs, per="layer"):
        """A weighted sum."""
        shape = self.shape(xs[0])
        weights = {f"weight.{i}": self._per(shape, per, 1, 9) for i in range(len(xs))}
        return self._put("add", shape, *xs, parameters=weights, per=per)

    def sum_pool(self, x, kernel, stride, padding=0):
        """Sums of windows."""
        stride, padding = ([each] * len(kernel) for each in (stride, padding))
        shape = [self.shape(x)[0], *self._windows(x, kernel, stride, padding, [1] * len(kernel))]
        return self._put("sum_pool", shape, x, kernel=list(kernel), stride=stride, padding=padding)

    def max_pool(self, x, kernel, stride, padding=0, dilation=1, ceil=0):
        """Maxima of windows."""
        stride, padding, dilation = ([each] * len(kernel) for each in (stride, padding, dilation))
        shape = [self.shape(x)[0], *self._windows(x, kernel, stride, padding, dilation, ceil)]
        fields = {"stride": stride, "padding": padding, "dilation": dilation}
        return self._put("max_pool", shape, x, kernel=list(kernel), **fields)

    def concat(self, *xs):
        """Along the channels."""
        shape = self.shape(xs[0])
        return self._put("concat", [sum(self.shape(x)[0] for x in xs), *shape[1:]], *xs)

    def reshape(self, x, *shape):
        """In memory order; no shape: flat."""
        return self._put("reshape", shape or [prod(self.shape(x))], x)

    def permute(self, x, *order):
        """Other axes."""
        shape = self.shape(x)
        return self._put("permute", [shape[axis] for axis in order], x, order=list(order))

    def gather(self, x, *shape):
        """From anywhere, zeros among them."""
        index = self.whole(-1, prod(self.shape(x)) - 1, *shape)
        return self._put("gather", shape, x, parameters={"index": index})

    def fire(self, x, per="channel", fraction_bits=0):
        """A population that fires now and then."""
        shape, seen = (
            self.shape(x),
            replay.replay(self.network(), {"input": stimuli(self.network())})[x].train,
        )
        high = max(2, int(np.abs(seen).mean() * 2) << fraction_bits)
        ranges = {"threshold": (1, high), "bias": (-high // 8, high // 8), "initial": (-high // 4, high // 2)}
        parameters = {role: self._per(shape, per, *ends) for role, ends in ranges.items()}
        potential = {"bits": 22, "bound": {"lowest": -(2**21), "highest": 2**21 - 1}}
        fields = {"potential": potential, "fraction_bits": fraction_bits, "per": per}
        return self._put("integrate_fire", shape, x, parameters=parameters, **fields)

    def integrate(self, x, *roles):
        """A read-out."""
        shape = self.shape(x)
        parameters = {role: self._per(shape, "channel", -30, 30) for role in roles}
        potential = {"bits": 22, "bound": {"lowest": -(2**21), "highest": 2**21 - 1}}
        return self._put("integrate", shape, x, parameters=parameters, per="channel", potential=potential)

    def network(self, *outputs):
        """What a pack's reader would give."""
        chosen = list(outputs) or [self.layers[-1]["name"]]
        return replay.Network(self.contract, self.layers, chosen, 23, self.arrays)


def stimuli(network, samples=3, steps=None, seed=1):
    """A random stimulus of every sample, [samples, ...]; with `steps` one of every step."""
    layer, lead = network.layers[0], (samples,) if steps is None else (steps, samples)
    low = 0 if layer["encoding"] == "unsigned" else -(2 ** (layer["bits"] - 1))
    shape = (*lead, *layer["shape"])
    return np.random.default_rng(seed).integers(low, low + 2 ** layer["bits"], shape)


def expected(network, train):
    """All that the numpy twin makes of a train of stimuli [T, samples, ...], by the outputs' names."""
    timing = {"timesteps": len(train), "delay": min(network.delay, len(train))}
    network = replace(network, contract=network.contract | timing)
    activity = replay.replay(network, {}, {"input": Activity(train)})
    found = {}
    for layer in network.layers:
        if layer["kind"] == "integrate_fire":
            found[f"spikes/{layer['name']}"] = activity[layer["name"]].train
        if layer["kind"] in ("integrate_fire", "integrate"):
            found[f"potentials/{layer['name']}"] = activity[layer["name"]].potentials
    return found | {f"result/{name}": activity[name].train.sum(0) for name in network.outputs}


def evaluated(model, feeds):
    """What onnx.reference computes, by name."""
    evaluator = ReferenceEvaluator(model)
    return dict(zip(evaluator.output_names, evaluator.run(None, feeds), strict=True))


def given(model, train):
    """A train in the type of the graph's input."""
    element = model.graph.input[0].type.tensor_type.elem_type
    return {"input": train.astype(onnx.helper.tensor_dtype_to_np_dtype(element))}


def assert_equal(found, wanted):
    """The same names and every number, of whatever type."""
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


# Every kind of layer -------------------------------------------------------------------------------


def read_out(hand, x):
    """A population and a linear read-out behind a layer, so that what it passes on is seen twice."""
    flat = hand.reshape(hand.fire(x, "neuron"))
    hand.integrate(hand.linear(flat, 4), "bias", "initial")


def _conv_1d(hand):
    read_out(
        hand, hand.conv(hand.fire(hand.reshape("input", 4, 18)), 3, (5,), stride=2, padding=3, dilation=2)
    )


def _conv_2d(hand):
    read_out(hand, hand.conv(hand.conv("input", 4, (3, 3), padding=1), 4, (2, 3), groups=2, stride=2))


def _conv_3d(hand):
    read_out(hand, hand.conv(hand.fire(hand.reshape("input", 2, 3, 3, 4)), 4, (2, 2, 3), padding=1, groups=2))


def _conv_depthwise(hand):
    x = hand.fire(hand.conv("input", 6, (3, 3), dilation=2, padding=2))
    read_out(hand, hand.conv(x, 6, (3, 3), dilation=2, padding=1, groups=6))


def _conv_of_wide_weights(hand):
    read_out(hand, hand.conv("input", 3, (3, 3), padding=1, largest=5000))


def _up_1d(hand):
    read_out(hand, hand.up(hand.fire(hand.reshape("input", 4, 18)), 4, (3,), padding=1, dilation=2, groups=2))


def _up_2d(hand):
    read_out(hand, hand.up(hand.conv("input", 4, (3, 3)), 3, (3, 2), stride=3, padding=1, more=1))


def _up_3d(hand):
    x = hand.fire(hand.reshape("input", 2, 3, 3, 4))
    read_out(hand, hand.up(x, 4, (2, 2, 2), padding=1, groups=2, more=1))


def _up_depthwise(hand):
    read_out(hand, hand.up(hand.fire("input"), 2, (3, 3), padding=1, groups=2))


def _up_cropped(hand):
    read_out(hand, hand.up(hand.fire("input"), 3, (2, 2), padding=2))


def _linear_of_linear(hand):
    x = hand.linear(hand.linear(hand.reshape("input", 4, 18), 9, largest=127), 5)
    read_out(hand, hand.linear(x, 3))


def _scales(hand):
    x = hand.scale(hand.fire(hand.scale("input", "neuron")), "channel")
    read_out(hand, hand.scale(hand.scale(x, "layer"), "neuron"))


def _adds(hand):
    spikes, currents = hand.fire("input"), hand.conv("input", 2, (3, 3), padding=1)
    x = hand.add(hand.add(spikes, currents, per="channel"), spikes, currents, per="neuron")
    read_out(hand, hand.conv(hand.add(x), 3, (3, 3), padding=1))


def _sum_pools(hand):
    x = hand.sum_pool(hand.sum_pool(hand.fire("input"), (2, 3), 1), (2, 2), 2, padding=1)
    read_out(hand, hand.sum_pool(hand.conv(x, 3, (2, 2)), (2, 2), 1, padding=1))


def _sum_pool_over_255(hand):
    x = hand.sum_pool(hand.sum_pool("input", (3, 3), 1), (3, 3), 1)
    read_out(hand, hand.conv(x, 3, (2, 2)))


def _max_pool(hand):
    x = hand.max_pool(hand.fire("input", "neuron"), (3, 2), 2, padding=1, ceil=1)
    read_out(hand, hand.conv(hand.max_pool(x, (2, 2), 1, padding=1, dilation=2), 3, (2, 2)))


def _max_pool_1d_and_3d(hand):
    deep = hand.fire(hand.reshape("input", 2, 3, 3, 4), "neuron")
    line = hand.reshape(hand.max_pool(deep, (2, 2, 3), 1, padding=1), 4, 32)
    read_out(hand, hand.max_pool(line, (4,), 3, ceil=1))


def _max_pool_of_currents(hand):
    currents = hand.conv("input", 3, (3, 3), padding=1)
    x = hand.max_pool(currents, (3, 3), 2, padding=1, ceil=1)
    spikes = hand.max_pool(hand.fire(x), (2, 2), 1)
    read_out(hand, hand.linear(spikes, 3))


def _moves(hand):
    spikes, currents = hand.fire("input"), hand.conv("input", 3, (3, 3), padding=1)
    mixed = hand.permute(hand.concat(spikes, currents, hand.fire(currents)), 2, 0, 1)
    both = hand.concat(hand.permute(spikes, 1, 2, 0), hand.permute(hand.fire(spikes, "layer"), 1, 2, 0))
    x = hand.concat(hand.gather(mixed, 5, 4), hand.gather(both, 5, 4), hand.gather(spikes, 2, 4))
    read_out(hand, hand.linear(x, 4))


def _integrate_in_between(hand):
    x = hand.integrate(hand.conv("input", 3, (3, 3)), "bias", "initial")
    x = hand.integrate(hand.conv(x, 3, (3, 3)), "initial")
    read_out(hand, hand.conv(hand.integrate(hand.integrate(x, "bias")), 2, (2, 2)))


def _fractions(hand):
    x = hand.fire(hand.conv("input", 3, (3, 3)), "channel", fraction_bits=5)
    hand.fire(hand.linear(hand.reshape(x), 6), "layer", fraction_bits=3)


KINDS = {
    each.__name__.strip("_"): each
    for each in (
        _conv_1d, _conv_2d, _conv_3d, _conv_depthwise, _conv_of_wide_weights, _up_1d, _up_2d, _up_3d,
        _up_depthwise, _up_cropped, _linear_of_linear, _scales, _adds, _sum_pools, _sum_pool_over_255,
        _max_pool, _max_pool_1d_and_3d, _max_pool_of_currents, _moves, _integrate_in_between, _fractions,
    )
}  # fmt: skip


def network_of(kind, delay=0, reset_mode="subtraction", **options):
    """A small random network around a kind of layer."""
    hand = Hand((2, 6, 6), {"delay": delay, "reset_mode": reset_mode}, **options)
    KINDS[kind](hand)
    return hand.network()
