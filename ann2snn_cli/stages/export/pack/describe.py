"""The network in plain integers: a SPIKING graph as the layers, fields and arrays of docs/vector-pack.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ann2snn_cli.errors import Setting, UnsupportedNetwork
from ann2snn_cli.ir.bounds import Bound, bounds
from ann2snn_cli.ir.encoding import encoding_of
from ann2snn_cli.ir.graph import Graph, Node
from ann2snn_cli.ir.ops import (
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
    Op,
    Permute,
    Reshape,
    Scale,
    Synapse,
)
from ann2snn_cli.ir.span import Span
from ann2snn_cli.twins.replay import Network
from ann2snn_cli.words import count_of

Array = NDArray[Any]
Fields = dict[str, Any]
Parameters = dict[str, tuple[Array, Fields]]  # by role: the values, and how they are stored

MEANING = {
    "order": "integrate, compare, reset",
    "comparator": ">=",
    "initial_potential": "initial/ is loaded before the first step",
    "bias": "added at every step",
    "input": "the stimulus is shown at every step, the same each time",
    "potentials": "after the reset, of each of the T firing steps, which begin when `delay` steps of the "
    "input are integrated; bias is added with the input, T times",
}


def describe(graph: Graph) -> Network:
    """Needs SPIKING in integers; refuses real numbers, naming the layers."""
    refuse(graph)
    proved = bounds(graph)
    names = file_names(graph)
    layers, arrays = [], {}
    for node in graph.nodes:
        kind, fields, parameters = _RULES[type(node.op)](graph, node, node.op, proved[node.name])
        layers.append(
            {
                "name": node.name,
                "file_name": names[node.name],
                "source": node.source,
                "kind": kind,
                "inputs": list(node.inputs),
                "shape": list(node.shape),
                "spikes": node.name in graph.spiking,
                "passes": _ends(proved[node.name].passed_on),
                **({"unit": _unit(node)} if node.name in graph.outputs else {}),
                **fields,
                "parameters": dict(_entries(names[node.name], parameters)),
            }
        )
        arrays.update({(node.name, role): values for role, (values, _) in parameters.items()})
    widest = max(span.bits for bound in proved.values() for span in _spans(bound))
    return Network(graph.timing.to_plain() | MEANING, layers, list(graph.outputs), widest, arrays)


def refuse(graph: Graph) -> None:
    """Refuse what has no pack: real numbers, and ops that docs/vector-pack.md does not have."""
    _refuse_real(graph)
    _refuse_unknown(graph)
    _refuse_changing(graph)


def _refuse_changing(graph: Graph) -> None:
    changing = [node for node in graph.inputs if isinstance(node.op, Input) and not node.op.is_constant]
    if changing:
        raise UnsupportedNetwork(
            "these files hold one stimulus for all steps, and here it changes from step to step "
            f"({encoding_of(graph)})",
            where=", ".join(node.source or node.name for node in changing),
            remedy=f"convert with {Setting('encoding', 'direct')}; the .pth holds the network as it is",
        )


def _refuse_real(graph: Graph) -> None:
    names = [node.source or node.name for node in graph.nodes if node.name in graph.real]
    if graph.has_float_weights:
        names = [node.source or node.name for node in graph.of(Synapse)]
    names = list(dict.fromkeys(names))
    if names:
        raise UnsupportedNetwork(
            f"real numbers are left in {count_of(len(names), 'layer')}, and these files hold integers",
            where=", ".join(names),
            remedy=f"convert with a {Setting('weight_bitwidth')} of 1 to 8"
            if graph.has_float_weights
            else "replace these operators in the network: they have no spiking form",
        )


def _refuse_unknown(graph: Graph) -> None:
    unknown = [node for node in graph.nodes if type(node.op) not in _RULES]
    if unknown:
        kinds = ", ".join(dict.fromkeys(node.op.kind for node in unknown))
        raise UnsupportedNetwork(
            f"these files have no layer for {kinds}",
            where=", ".join(node.source or node.name for node in unknown),
            remedy="replace these layers in the network, or hand over the .pth",
        )


def file_names(graph: Graph) -> dict[str, str]:
    """A name for the files of each layer; of two that fall together, the later one gets underscores."""
    names: dict[str, str] = {}
    taken: set[str] = set()  # in lower case: there are file systems that do not tell A from a
    for node in graph.nodes:
        safe = "".join(
            letter if (letter.isascii() and letter.isalnum()) or letter in "._-" else "_"
            for letter in node.name
        )
        while taken & _claimed(node, safe):
            safe += "_"
        taken |= _claimed(node, safe)
        names[node.name] = safe
    return names


def _claimed(node: Node, name: str) -> set[str]:
    """What its files may be called: an add has one for each input, `add.0`, as other layers may."""
    inputs = range(len(node.inputs)) if isinstance(node.op, Add) else ()
    return {name.lower(), *(f"{name}.{place}".lower() for place in inputs)}


def _spans(bound: Bound) -> Iterator[Span]:
    yield from (bound.passed_on, bound.total)
    if bound.potential is not None:
        yield bound.potential


def _ends(span: Span) -> Fields:
    return {"lowest": int(span.low), "highest": int(span.high)}


def _unit(node: Node) -> float | list[float]:
    """What 1 stands for: value = sum over the steps / T · unit; where it differs, of each neuron."""
    unit = node.known_unit.detach().cpu().double()
    found: float | list[float] = unit.expand(node.shape).flatten().tolist()
    return float(unit) if unit.numel() == 1 else found


def _entries(file_name: str, parameters: Parameters) -> Iterator[tuple[str, Fields]]:
    """How each parameter is stored, by role."""
    for role, (values, stored) in parameters.items():
        folder, _, place = role.partition(".")
        folder = "weights" if folder == "weight" else folder
        yield (
            role,
            {
                "file": f"{folder}/{file_name}{'.' if place else ''}{place}.mem",
                "shape": list(values.shape),
                "words": values.size,
                **stored,
            },
        )


# One rule an op ------------------------------------------------------------------------------------


def numbers(values: Tensor) -> Array:
    """A tensor of integers as numpy's."""
    found: Array = values.detach().cpu().double().numpy().astype(np.int64)
    return found


def signed_bits(values: Array) -> int:
    """The fewest bits of two's complement that hold the values."""
    return Span(float(values.min(initial=0)), float(values.max(initial=0))).bits


def _stored_bits(op: Synapse) -> int | None:
    """The width of its words: that of its grid, unless branches multiply it."""
    return op.bits if op.multiplier is None else None


def _synapse(op: Synapse, axes: str) -> tuple[Array, Fields]:
    """A synapse's weights, with the formula of their place."""
    values, bits = numbers(op.weight), _stored_bits(op)
    names = [name for name in axes.split() if name != "k"]
    names += ["kz", "ky", "kx"][-(values.ndim - len(names)) :] if "k" in axes else []
    place = names[0]
    for name, extent in zip(names[1:], values.shape[1:], strict=True):
        place = f"({place})*{extent} + {name}" if "+" in place else f"{place}*{extent} + {name}"
    encoding = "bipolar" if bits == 1 else "two's complement"
    layout = "w" + "".join(f"[{name}]" for name in names)
    return values, {
        "bits": bits or signed_bits(values),
        "encoding": encoding,
        "layout": layout,
        "index": place,
    }


def _per(node: Node, values: Tensor, bits: int | None = None) -> tuple[Array, Fields]:
    """Values of a layer, of each channel or of each neuron."""
    array = numbers(values)
    channels = (*node.shape[:1], *[1] * (len(node.shape) - 1))
    if array.size == 1:
        per, array = "layer", array.reshape(1)
    elif array.shape == channels and len(channels) > 1:
        per, array = "channel", array.reshape(-1)
    else:
        per, array = "neuron", np.ascontiguousarray(np.broadcast_to(array, node.shape))
    return array, {"bits": bits or signed_bits(array), "encoding": "two's complement", "per": per}


def _input(graph: Graph, node: Node, op: Input, bound: Bound) -> tuple[str, Fields, Parameters]:
    signed = op.low < 0
    bits = Span(op.low, op.high).bits - (not signed)
    encoding = "two's complement" if signed else "unsigned"
    return "input", {"unit": op.unit, "bits": bits, "encoding": encoding}, {}


def _conv(graph: Graph, node: Node, op: Conv, bound: Bound) -> tuple[str, Fields, Parameters]:
    fields: Fields = {"kernel": list(op.kernel), "stride": list(op.stride), "padding": list(op.padding)}
    fields |= {"dilation": list(op.dilation), "groups": op.groups}
    if op.transposed:
        fields["output_padding"] = list(op.output_padding)
        return "conv_transpose", fields, {"weight": _synapse(op, "ci co k")}
    return "conv", fields, {"weight": _synapse(op, "co ci k")}


def _linear(graph: Graph, node: Node, op: Linear, bound: Bound) -> tuple[str, Fields, Parameters]:
    return "linear", {}, {"weight": _synapse(op, "o i")}


def _scale(graph: Graph, node: Node, op: Scale, bound: Bound) -> tuple[str, Fields, Parameters]:
    bits = _stored_bits(op)
    values, stored = _per(node, op.weight, bits)
    return "scale", {}, {"weight": (values, stored | ({"encoding": "bipolar"} if bits == 1 else {}))}


def _add(graph: Graph, node: Node, op: Add, bound: Bound) -> tuple[str, Fields, Parameters]:
    assert op.weights is not None
    return "add", {}, {f"weight.{place}": _per(node, weight) for place, weight in enumerate(op.weights)}


def _sum_pool(graph: Graph, node: Node, op: AvgPool, bound: Bound) -> tuple[str, Fields, Parameters]:
    return "sum_pool", {"kernel": list(op.kernel), "stride": list(op.stride), "padding": list(op.padding)}, {}


def _max_pool(graph: Graph, node: Node, op: MaxPool, bound: Bound) -> tuple[str, Fields, Parameters]:
    fields: Fields = {"kernel": list(op.kernel), "stride": list(op.stride), "padding": list(op.padding)}
    return "max_pool", fields | {"dilation": list(op.dilation)}, {}


def _gather(graph: Graph, node: Node, op: Gather, bound: Bound) -> tuple[str, Fields, Parameters]:
    index = numbers(op.index)
    return "gather", {}, {"index": (index, {"bits": signed_bits(index), "encoding": "two's complement"})}


def _fires(graph: Graph, node: Node, op: IntegrateFire, bound: Bound) -> tuple[str, Fields, Parameters]:
    values = {"threshold": op.threshold, "bias": op.bias, "initial": op.initial}
    register = _register(bound, values.values())
    fields = {"fraction_bits": op.fraction_bits, "potential": register}
    return (
        "integrate_fire",
        fields,
        {role: _per(node, value, register["bits"]) for role, value in values.items()},
    )


def _integrates(graph: Graph, node: Node, op: Integrate, bound: Bound) -> tuple[str, Fields, Parameters]:
    values = {"bias": op.bias, "initial": op.initial}
    present = {role: value for role, value in values.items() if value is not None}
    register = _register(bound, present.values())
    parameters = {role: _per(node, value, register["bits"]) for role, value in present.items()}
    return "integrate", {"potential": register}, parameters


def _register(bound: Bound, parameters: Iterable[Tensor]) -> Fields:
    """The width that holds the potential, and what it is compared with and grows by."""
    assert bound.potential is not None
    bits = max([bound.potential.bits, *(signed_bits(numbers(values)) for values in parameters)])
    return {"bits": bits, "bound": _ends(bound.potential)}


def _moves(kind: str, **fields: Callable[[Any], Any]) -> Callable[..., tuple[str, Fields, Parameters]]:
    return lambda graph, node, op, bound: (kind, {name: read(op) for name, read in fields.items()}, {})


_RULES: dict[type[Op], Callable[[Graph, Node, Any, Bound], tuple[str, Fields, Parameters]]] = {
    Input: _input,
    Conv: _conv,
    Linear: _linear,
    Scale: _scale,
    Add: _add,
    AvgPool: _sum_pool,
    MaxPool: _max_pool,
    Concat: _moves("concat"),
    Reshape: _moves("reshape"),
    Permute: _moves("permute", order=lambda op: list(op.order)),
    Gather: _gather,
    IntegrateFire: _fires,
    Integrate: _integrates,
}
