"""Validate: each rule of each level, broken in one place; contracts of stages; float64 holds the integers."""

from dataclasses import replace

import pytest
import torch

from ann2snn_cli.errors import InvalidGraph
from ann2snn_cli.ir.contract import Contract
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.ops import (
    Add,
    BatchNorm,
    Conv,
    Input,
    Integrate,
    IntegrateFire,
    Linear,
    Opaque,
    Ref,
    Relu,
)
from ann2snn_cli.ir.validate import stage, validate, validate_exact
from ann2snn_cli.stages.calibrate import calibrate
from ann2snn_cli.stages.fold import fold, spiking_pools
from ann2snn_cli.stages.quantize.correct import correct_biases
from ann2snn_cli.stages.quantize.finetune import finetune
from ann2snn_cli.stages.quantize.weights import quantize
from ann2snn_cli.stages.threshold import threshold

UNIT = torch.tensor(0.5)
ONES = torch.ones(1, 1, 1, 1)
NORM = BatchNorm(torch.ones(1), torch.zeros(1), torch.zeros(1), torch.ones(1), 1e-5)


def whole(value: int) -> torch.Tensor:
    """An integer, as a chip is loaded with."""
    return torch.tensor(value, dtype=torch.int64)


def chain(*ops, level: Level, unit: torch.Tensor | None = None) -> Graph:
    """Ops one after the other, named n0, n1, ..., on maps of 1x2x2; the last is the output."""
    nodes = [
        Node(f"n{i}", op, (f"n{i - 1}",) * min(i, 1), (1, 2, 2), f"module{i}", unit)
        for i, op in enumerate(ops)
    ]
    return Graph(tuple(nodes), (nodes[-1].name,), level, Contract(4))


def folded(*ops) -> Graph:
    """A graph that claims to be FOLDED."""
    return chain(*ops, level=Level.FOLDED)


def code(value: int = 3, bits: int | None = 3) -> Conv:
    """A synapse with an integer weight."""
    weight = torch.full((1, 1, 1, 1), value, dtype=torch.int8)
    return Conv(weight, bits=bits, step=UNIT)


def fires(threshold=8, bias=0, initial=4) -> IntegrateFire:
    """A population."""
    return IntegrateFire(
        *(v if isinstance(v, torch.Tensor) else whole(v) for v in (threshold, bias, initial))
    )


def spiking(*ops) -> Graph:
    """A graph that claims to be SPIKING."""
    return chain(*ops, level=Level.SPIKING, unit=UNIT)


GOOD = {
    "float": chain(Input(), Conv(ONES, torch.ones(1)), NORM, level=Level.FLOAT),
    "folded": folded(Input(), Conv(ONES), Relu()),
    "calibrated": chain(Input(1.0), Conv(ONES), Relu(clip=torch.tensor(1.0)), level=Level.CALIBRATED),
    "inherited clip": chain(Input(1.0), Relu(inherits_clip=True), level=Level.CALIBRATED),
    "quantized": chain(Input(1.0), Conv(ONES, bits=4, step=UNIT), Relu(clip=UNIT), level=Level.QUANTIZED),
    "spiking": spiking(Input(1.0), code(), fires()),
    "floats": spiking(Input(1.0), Conv(ONES * 0.3, bits=32), fires(torch.tensor(0.5))),
    "one bit": spiking(Input(1.0), code(-1, 1), fires()),
    "opaque": spiking(Input(1.0), Opaque("aten.gelu.default", (Ref(0),))),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_right_graph_is_handed_back_as_it_is(name):
    """So that verification can stand around any stage."""
    assert validate(GOOD[name]) is GOOD[name]


BROKEN = {
    "a batch norm": (folded(Input(), Conv(ONES), NORM, Relu()), "n2 .* no batch norm is left"),
    "a synapse's bias": (
        folded(Input(), Conv(ONES, torch.ones(1)), Relu()),
        "n1 .* biases live in the neurons",
    ),
    "a bare output": (folded(Input(), Conv(ONES)), "n1 .* an output is a population"),
    "no clip": (chain(Input(1.0), Relu(), level=Level.CALIBRATED), "n1 .* has its clip"),
    "no unit of the input": (
        chain(Input(), Relu(clip=UNIT), level=Level.CALIBRATED),
        "n0 .* every input has its unit",
    ),
    "no clip at QUANTIZED": (chain(Input(1.0), Relu(), level=Level.QUANTIZED), "n1 .* has its clip"),
    "no bits": (
        chain(Input(1.0), Conv(ONES), Relu(clip=UNIT), level=Level.QUANTIZED),
        "n1 .* bit width and step",
    ),
    "no step": (
        chain(Input(1.0), Conv(ONES, bits=4), Relu(clip=UNIT), level=Level.QUANTIZED),
        "n1 .* bit width",
    ),
    "a ReLU": (spiking(Input(1.0), code(), Relu()), "n2 .* every ReLU has become neurons"),
    "no units": (chain(Input(1.0), code(), fires(), level=Level.SPIKING), "n1 .* every node has its unit"),
    "a code too large": (spiking(Input(1.0), code(4, 3), fires()), "n1 .* on their grid"),
    "a code too small": (spiking(Input(1.0), code(-4, 3), fires()), "n1 .* on their grid"),
    "the least int8": (spiking(Input(1.0), code(-128, 8), fires()), "n1 .* on their grid"),
    "a zero of one bit": (spiking(Input(1.0), code(0, 1), fires()), "n1 .* on their grid"),
    "a fraction": (spiking(Input(1.0), replace(code(), weight=ONES * 0.5), fires()), "n1 .* on their grid"),
    "codes of no width": (spiking(Input(1.0), code(3, None), fires()), "n1 .* on their grid"),
    "a threshold of 0": (spiking(Input(1.0), code(), fires(0)), "n2 .* thresholds are 1 or more"),
    "a float threshold": (spiking(Input(1.0), code(), fires(torch.tensor(8.0))), "n2 .* count in integers"),
    "a float bias": (spiking(Input(1.0), code(), fires(bias=UNIT)), "n2 .* count in integers"),
    "a float potential": (spiking(Input(1.0), code(), fires(initial=UNIT)), "n2 .* count in integers"),
    "an unweighted sum": (spiking(Input(1.0), code(), fires(), Add(), Integrate()), "n3 .* integer weights"),
    "a float weight of a sum": (
        spiking(Input(1.0), fires(), Add((UNIT,)), Integrate()),
        "n2 .* count in integers",
    ),
    "a bias at SPIKING": (spiking(Input(1.0), replace(code(), bias=whole(1)), fires()), "n1 .* biases live"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_rule_is_named_with_its_node(name):
    """Where the graph was made, not three stages later."""
    graph, said = BROKEN[name]
    with pytest.raises(InvalidGraph, match=said) as raised:
        validate(graph)
    assert graph.level.name in raised.value.what
    assert raised.value.remedy


def test_all_broken_rules_come_at_once():
    """Of every node."""
    graph = spiking(Input(1.0), code(4, 3), fires(0), code(-9, 2), fires(torch.tensor(0.5)))
    with pytest.raises(InvalidGraph) as raised:
        validate(graph)
    assert all(name in raised.value.what for name in ("n1", "n2", "n3", "n4"))


def test_rules_of_calibration_end_where_integers_begin():
    """A SPIKING graph has thresholds instead of clips, and needs no steps for floats."""
    assert validate(spiking(Input(1.0), Linear(torch.ones(2, 2), bits=32), fires()))


# Contracts of stages -------------------------------------------------------------------------------


def made(graph: Graph, needs=Level.FLOAT, gives=Level.FOLDED):
    """A stage that gives this graph whatever it is given; and what it was called with."""
    called = []

    @stage(needs, gives)
    def straighten(given, *args, **kwargs):
        called.append((given, args, kwargs))
        return graph

    return straighten, called


def test_a_stage_is_given_what_it_asks_for_and_its_graph_is_handed_back():
    """With all its arguments; it keeps its name."""
    straighten, called = made(GOOD["folded"])
    assert straighten(GOOD["float"], 3, bits=4) is GOOD["folded"]
    assert called == [(GOOD["float"], (3,), {"bits": 4})]
    assert straighten.__name__ == "straighten"


@pytest.mark.parametrize("level", ["folded", "calibrated", "quantized", "spiking"])
def test_a_stage_does_not_run_on_a_graph_of_another_level(level):
    """Both levels and the stage are named; no level passes for another, be it an earlier or a later one."""
    straighten, called = made(GOOD["folded"])
    said = f"straighten takes a graph at level FLOAT, not {level.upper()}"
    with pytest.raises(InvalidGraph, match=said):
        straighten(GOOD[level])
    assert called == []


def test_a_stage_does_not_give_a_graph_of_another_level():
    """A stage that forgets to raise the level is named, not who comes after it."""
    for wrong in ("float", "calibrated"):
        straighten, _ = made(GOOD[wrong])
        with pytest.raises(InvalidGraph, match=f"straighten gives .* FOLDED, not {wrong.upper()}"):
            straighten(GOOD["float"])


def test_what_a_stage_gives_keeps_the_rules_of_its_new_level():
    """They are asked of the graph it gives, and not of the one it takes."""
    wrong, said = BROKEN["a batch norm"]
    with pytest.raises(InvalidGraph, match=said):
        made(wrong)[0](GOOD["float"])
    assert made(GOOD["calibrated"], Level.FOLDED, Level.CALIBRATED)[0](wrong) is GOOD["calibrated"]


STAGES = {
    fold: "float",
    spiking_pools: "folded",
    calibrate: "folded",
    quantize: "calibrated",
    finetune: "quantized",
    correct_biases: "quantized",
    threshold: "quantized",
}


@pytest.mark.parametrize("transform", STAGES, ids=lambda transform: transform.__name__)
def test_every_stage_holds_its_contract(transform):
    """It takes one level; a graph of any other is refused before anything is asked of the other arguments."""
    for name in ("float", "folded", "calibrated", "quantized", "spiking"):
        if name != STAGES[transform]:
            with pytest.raises(InvalidGraph, match=f"{transform.__name__} takes a graph at level"):
                transform(GOOD[name])


# Integers that are too large -----------------------------------------------------------------------


def growing(layers: int) -> Graph:
    """Linear layers without neurons: sums grow by 127·4 in each."""
    deep = Linear(torch.full((4, 4), 127, dtype=torch.int8), bits=8, step=UNIT)
    ops = [Input(1.0), *[deep] * layers, Integrate()]
    nodes = [
        Node(f"n{i}", op, (f"n{i - 1}",) * min(i, 1), (4,), f"module{i}", UNIT) for i, op in enumerate(ops)
    ]
    return Graph(tuple(nodes), (nodes[-1].name,), Level.SPIKING, Contract(16))


def test_sums_that_float64_cannot_hold_are_refused():
    """255 · 16 · (127·4)^n passes 2^53 at n = 5: the layer by its own name, and what to lower."""
    assert 255 * 16 * (127 * 4) ** 4 < 2**53 <= 255 * 16 * (127 * 4) ** 5
    assert validate_exact(growing(4))
    with pytest.raises(InvalidGraph, match=r"2\^53 in module5") as raised:
        validate_exact(growing(5))
    assert "lower weight_bitwidth or timesteps" in str(raised.value)


def test_real_numbers_are_not_asked_to_be_exact():
    """Behind an opaque node there are no integers to lose."""
    opaque = Opaque("aten.gelu.default", (Ref(0),))
    assert validate_exact(spiking(Input(1.0), opaque, code(), Integrate()))
