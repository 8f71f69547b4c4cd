"""How large a network's numbers can get, from its weights: what fits 8 bits, int32, or float32's 24."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod

import numpy as np

from ann2snn_cli.twins.replay import MANIFEST, Array, Damaged, Layer, Network, Problem, refuse_contract

Range = tuple[int, int]


def ranges(network: Network) -> dict[str, Range]:
    """Give, by layer, the lowest and highest number that it can pass on in a step.

    Every sum on the way to it, in whatever order, lies in the same range. (The manifest's `passes` says as
    much; this one is of the weights at hand, which a test may have changed.)
    """
    found: dict[str, Range] = {}
    for layer in network.layers:
        found[layer["name"]] = _RULES[layer["kind"]](
            network, layer, [found[name] for name in layer["inputs"]]
        )
    return found


def _input(network: Network, layer: Layer, xs: list[Range]) -> Range:
    bits, encoding = layer["bits"], layer["encoding"]
    if encoding == "unsigned":
        return 0, 2**bits - 1
    return (-1, 1) if encoding == "bipolar" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _with_zero(low: int, high: int) -> Range:
    """What padding, or a sum that has not begun, may also be."""
    return min(low, 0), max(high, 0)


def _sums(rows: Array, x: Range) -> Range:
    """Σ w·x for every row of weights."""
    low, high = _with_zero(*x)
    up, down = np.maximum(rows, 0).sum(-1), np.minimum(rows, 0).sum(-1)
    return int((up * low + down * high).min()), int((up * high + down * low).max())


def _synapse(network: Network, layer: Layer, xs: list[Range]) -> Range:
    weight = network.parameter(layer, "weight")
    if layer["kind"] == "conv_transpose":
        grouped = weight.reshape(layer["groups"], -1, *weight.shape[1:])  # [groups, in, out, k...]
        weight = np.moveaxis(grouped, 2, 1).reshape(layer["groups"] * weight.shape[1], -1)
    return _sums(weight.reshape(len(weight), -1), xs[0])


def _products(weight: Array, x: Range) -> Range:
    corners = [int(end) * bound for end in (weight.min(), weight.max()) for bound in x]
    return min(corners), max(corners)


def _scale(network: Network, layer: Layer, xs: list[Range]) -> Range:
    return _with_zero(*_products(network.parameter(layer, "weight"), xs[0]))


def _add(network: Network, layer: Layer, xs: list[Range]) -> Range:
    terms = [_with_zero(*_products(network.parameter(layer, f"weight.{i}"), x)) for i, x in enumerate(xs)]
    return sum(low for low, _ in terms), sum(high for _, high in terms)


def _sum_pool(network: Network, layer: Layer, xs: list[Range]) -> Range:
    low, high = _with_zero(*xs[0])
    return low * prod(layer["kernel"]), high * prod(layer["kernel"])


def _same(network: Network, layer: Layer, xs: list[Range]) -> Range:
    """Moves pass on what they get (or a zero); of a maximum's running sum no step grows by more."""
    return _with_zero(min(low for low, _ in xs), max(high for _, high in xs))


def _integrate(network: Network, layer: Layer, xs: list[Range]) -> Range:
    (low, high), parameters = xs[0], layer["parameters"]
    if "bias" in parameters:
        bias = network.parameter(layer, "bias")
        low, high = low + int(bias.min()), high + int(bias.max())
    if "initial" in parameters:
        initial = network.parameter(layer, "initial")
        low, high = low + min(int(initial.min()), 0), high + max(int(initial.max()), 0)
    return low, high


_RULES: dict[str, Callable[[Network, Layer, list[Range]], Range]] = {
    "input": _input,
    **dict.fromkeys(("conv", "conv_transpose", "linear"), _synapse),
    "scale": _scale,
    "add": _add,
    "sum_pool": _sum_pool,
    **dict.fromkeys(("max_pool", "concat", "reshape", "permute", "gather"), _same),
    "integrate_fire": lambda network, layer, xs: (0, 1),
    "integrate": _integrate,
}


# Refusals ------------------------------------------------------------------------------------------


def refuse_unknown(network: Network) -> None:
    """Raise Damaged where the format has no such contract or layers of such a kind, or there is no input."""
    refuse_contract(network.contract)
    found = [
        Problem(MANIFEST, f"{layer['name']} is of the unknown kind {layer['kind']!r}", layer["name"])
        for layer in network.layers
        if layer["kind"] not in _RULES
    ]
    if not network.inputs:
        found.append(Problem(MANIFEST, "it has no input"))
    if found:
        raise Damaged(found)


def refuse_wider_than_int32(network: Network) -> None:
    """Raise Damaged where int32 potentials would wrap, naming the layers."""
    if network.widest_bits <= 32:
        return
    wide = {name: reach for name, reach in reaches(network).items() if reach >= 2**31}
    problems = [
        Problem(MANIFEST, f"the numbers of {name} reach {reach}, and the ONNX graph counts in int32", name)
        for name, reach in wide.items()
    ]
    what = f"its sums take {network.widest_bits} bits, and the ONNX graph counts in int32"
    raise Damaged(problems or [Problem(MANIFEST, what)])


def reaches(network: Network) -> dict[str, int]:
    """Give, by layer, the largest magnitude of any number that a graph computes for it in T steps."""
    found = ranges(network)
    summed = {name for layer in network.layers if layer["kind"] == "max_pool" for name in layer["inputs"]}
    summed |= set(network.outputs)
    farthest: dict[str, int] = {}
    for layer in network.layers:
        name = layer["name"]
        reach = max(map(abs, found[name])) * (network.steps if name in summed else 1)
        farthest[name] = max([reach, *_inside(network, layer, found)])
    return farthest


def _inside(network: Network, layer: Layer, found: dict[str, Range]) -> Iterator[int]:
    """Magnitudes of what a layer computes and does not pass on."""
    if "potential" in layer:
        numbers = {role: int(np.abs(network.parameter(layer, role)).max()) for role in layer["parameters"]}
        yield from numbers.values()
        farthest = max(abs(bound) for bound in layer["potential"]["bound"].values())
        yield farthest + numbers.get("initial", 0)  # V, and V − V0
    if "fraction_bits" in layer:
        drive = max(map(abs, found[layer["inputs"][0]])) << layer["fraction_bits"]
        yield drive + int(np.abs(network.parameter(layer, "bias")).max())
