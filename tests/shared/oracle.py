"""SPEC 1, 4, 5 and 6 in numpy and plain loops: slow, obvious, and independent of the package's arithmetic."""

from dataclasses import dataclass
from itertools import product

import numpy as np

from ann2snn_cli.ir.contract import Reset


@dataclass(frozen=True)
class Played:
    """What a node passed on, [T, batch, ...], and its potentials where it has any."""

    train: np.ndarray
    potentials: np.ndarray | None = None


def play(graph, samples, delay, factor=1.0):
    """By node: what it does with the samples, which are arrays [batch, ...] by input's name.

    Real numbers that are rounded are multiplied by the factor.
    """
    found = {}
    for node in graph.nodes:
        found[node.name] = play_node(graph, node, found, samples, delay, factor)
    return found


def play_node(graph, node, found, samples, delay, factor=1.0):
    """What one node does, given what the nodes before it did."""
    contract, name = graph.contract, type(node.op).__name__
    if name == "Input":
        shown = np.clip(np.rint(samples[node.name] / node.op.unit), node.op.low, node.op.high)
        if node.op.encoding == "frames":  # [batch, T, ...]
            return Played(shown.astype(np.int64).swapaxes(0, 1))
        return Played(np.stack([shown.astype(np.int64)] * contract.timesteps))
    trains = [found[each].train for each in node.inputs]
    if name == "IntegrateFire":
        return fire(node, trains[0], contract, delay)
    if name == "Integrate":
        return integrate(node, trains[0])
    if name == "MaxPool":
        return Played(running_maxima(node, trains[0]))
    if name == "Opaque":
        units = [float(graph[each].unit) for each in node.inputs]
        return Played(rounded_otherwise(temporal_difference(node, trains[0] * units[0]), factor))
    return Played(LINEAR[name](node, trains))


def numbers(values):
    """A tensor as numpy's integers, or floats where it holds floats."""
    return np.zeros((), np.int64) if values is None else values.numpy()


def wide(values):
    """The same where products need not fit into 8 bits."""
    return values.numpy() if values.is_floating_point() else values.long().numpy()


def fire(node, train, contract, delay):
    """SPEC 5 in the population's own time, t = 1..T+D."""
    op, steps = node.op, contract.timesteps
    threshold, bias, initial = (numbers(value) for value in (op.threshold, op.bias, op.initial))
    potential = np.zeros_like(train[0]) + initial
    spikes, potentials = [], []
    for t in range(1, steps + delay + 1):
        if t <= steps:
            potential = potential + train[t - 1] * 2**op.fraction_bits + bias
        if t > delay:
            fired = potential >= threshold
            left = potential - threshold if contract.reset_mode is Reset.SUBTRACTION else 0 * potential
            potential = np.where(fired, left, potential)
            spikes.append(fired.astype(np.int64))
            potentials.append(potential)
    return Played(np.stack(spikes), np.stack(potentials))


def integrate(node, train):
    """Input plus bias at every step, the initial charge with the first; V is the sum so far."""
    passed = train + numbers(node.op.bias)
    passed[0] = passed[0] + numbers(node.op.initial)
    return Played(passed, np.cumsum(passed, axis=0))


def running_maxima(node, train):
    """max_i N_i(t) − max_i N_i(t−1)."""
    so_far = np.cumsum(train, axis=0)
    largest = np.zeros((*train.shape[:2], *node.shape), so_far.dtype)
    for channel, place, inside in windows(node, train.shape[2:], node.op.dilation):
        largest[(..., channel, *place)] = np.max([so_far[(..., channel, *at)] for at in inside], axis=0)
    return np.concatenate([largest[:1], largest[1:] - largest[:-1]])


def rounded_otherwise(values, factor):
    """The values times the factor, but for those that no rounding touches, such as 0, 1/2 and 1."""
    return np.where(values * 2**20 == np.rint(values * 2**20), values, values * factor)


def temporal_difference(node, reals):
    """t·f(X(t)) − (t−1)·f(X(t−1)); of all operators there are only sigmoids here."""
    assert node.op.target == "aten.sigmoid.default"
    emitted, before = [], 0.0
    for t in range(1, len(reals) + 1):
        now = t * (1 + np.tanh(reals[:t].sum(0) / t / 2)) / 2
        emitted.append(now - before)
        before = now
    return np.stack(emitted)


# Linear ops: at every step the same ----------------------------------------------------------------


def windows(node, before, dilation):
    """(channel, place, the places within the input that its window covers)."""
    op = node.op
    for channel, *place in product(*map(range, node.shape)):
        taps = product(*map(range, op.kernel))
        covered = [
            tuple(
                p * s - pad + tap * d
                for p, s, pad, tap, d in zip(place, op.stride, op.padding, at, dilation, strict=True)
            )
            for at in taps
        ]
        yield channel, tuple(place), [at for at in covered if within(at, before[1:])]


def within(place, extent):
    """Is it inside?"""
    return all(0 <= at < length for at, length in zip(place, extent, strict=True))


def pool(node, trains):
    """The sum of each window."""
    (x,) = trains
    y = np.zeros((*x.shape[:2], *node.shape), x.dtype)
    for channel, place, inside in windows(node, x.shape[2:], [1] * len(node.op.kernel)):
        y[(..., channel, *place)] = sum(x[(..., channel, *at)] for at in inside)
    return y


def conv(node, trains):
    """Tap by tap; transposed: every input is spread over the outputs that it reaches."""
    (x,), op = trains, node.op
    y = np.zeros((*x.shape[:2], *node.shape), np.result_type(x, numbers(op.weight), np.int64))
    small, large = (x.shape[2:], node.shape) if op.transposed else (node.shape, x.shape[2:])
    rows, columns = small[0] // op.groups, large[0] // op.groups
    for index in np.ndindex(*op.weight.shape):
        first, second, *tap = index  # [small, large/groups, k...], of transposed ones and of others
        weight = op.weight[index].item()
        other = first // rows * columns + second
        for place in product(*map(range, small[1:])):
            at = tuple(
                p * s - pad + k * d
                for p, s, pad, k, d in zip(place, op.stride, op.padding, tap, op.dilation, strict=True)
            )
            if within(at, large[1:]):
                near, far = (..., first, *place), (..., other, *at)
                if op.transposed:
                    y[far] += weight * x[near]
                else:
                    y[near] += weight * x[far]
    return y


def gather(node, trains):
    """y.flat[i] = x.flat[index.flat[i]], or 0 where the index is −1."""
    (x,) = trains
    flat = x.reshape(*x.shape[:2], -1)
    columns = [flat[..., i] if i >= 0 else 0 * flat[..., 0] for i in node.op.index.flatten().tolist()]
    return np.stack(columns, axis=-1).reshape(*x.shape[:2], *node.shape)


def linear(node, trains):
    """Along the last axis."""
    return np.stack([(trains[0] * row).sum(-1) for row in wide(node.op.weight)], axis=-1)


LINEAR = {
    "Conv": conv,
    "AvgPool": pool,
    "Gather": gather,
    "Linear": linear,
    "Scale": lambda node, trains: trains[0] * wide(node.op.weight),
    "Add": lambda node, trains: sum(
        x * numbers(weight) for x, weight in zip(trains, node.op.weights, strict=True)
    ),
    "Concat": lambda node, trains: np.concatenate(trains, axis=2),
    "Reshape": lambda node, trains: trains[0].reshape(*trains[0].shape[:2], *node.shape),
    "Permute": lambda node, trains: trains[0].transpose(0, 1, *(axis + 2 for axis in node.op.order)),
}
