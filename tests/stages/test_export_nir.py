"""NIR out: the file, what it says by NIR's own equations, the loss table, and the replay in readers.

The oracle is `Interpreter`: the documented equations of NIR's nodes, one Euler step a presentation, on what
`nir.read` gives. It shares no code with the package.
"""

import hashlib
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ann2snn_cli.commands.flags import in_flags
from ann2snn_cli.errors import Ann2SnnError, BadFile, UnsupportedNetwork, UsageError, as_words, spelled
from ann2snn_cli.ir.contract import Contract, Reset, Rounding
from ann2snn_cli.ir.graph import Graph, Level, Node
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
    Opaque,
    Permute,
    Ref,
    Reshape,
    Scale,
)
from ann2snn_cli.stages.export.nir import FLAVORS, readers, replay, replaying, write
from ann2snn_cli.stages.export.nir.flavors import TABLE
from ann2snn_cli.stages.export.nir.modules import modules
from ann2snn_cli.stages.simulate import run as run_engine
from ann2snn_cli.stages.simulate import simulate

nir = pytest.importorskip("nir", reason="the nir extra is not installed")
h5py = pytest.importorskip("h5py", reason="the nir extra is not installed")

STEPS = 12
WHOLE_NETWORK = ""


# The oracle ----------------------------------------------------------------------------------------


class Interpreter:
    """NIR by its documented equations: dt = 1, all nodes in a step, an edge that closes a circle a step late.

    `subtracts`: what IF does on a spike by the documents of nir 1.0.5 and older.
    """

    def __init__(self, graph, *, subtracts=False):
        self.graph = graph
        self.subtracts = subtracts
        self.reached = {name: self._from(name) for name in graph.nodes}
        self.late = {edge for edge in graph.edges if self._closes(*edge)}

    def _from(self, name):
        found, new = set(), {name}
        while new:
            new = {after for before, after in self.graph.edges if before in new} - found
            found |= new
        return found

    def _closes(self, before, after):
        """The edge comes from the circle that it enters, and something else enters there too."""
        others = {b for b, a in self.graph.edges if a == after}
        return before in self.reached[after] and not others <= self.reached[after]

    def run(self, presented):
        """What every node gives, [steps, batch, ...]."""
        self.potentials, given, trains = {}, {}, {name: [] for name in self.graph.nodes}
        for now in presented:
            before, given = given, {}
            while len(given) < len(self.graph.nodes):
                for name, node in self.graph.nodes.items():
                    feeders = [b for b, a in self.graph.edges if a == name]
                    ready = all(b in given or (b, name) in self.late for b in feeders)
                    if name not in given and ready:
                        arriving = [
                            before.get(b, torch.zeros(())) if (b, name) in self.late else given[b]
                            for b in feeders
                        ]
                        given[name] = self._value(name, node, sum(arriving) if feeders else now)
            for name, value in given.items():
                trains[name].append(value)
        return {name: torch.stack(train) for name, train in trains.items()}

    def _value(self, name, node, x):
        kind = type(node).__name__
        if kind in {"Input", "Output"}:
            return x
        if kind in {"I", "IF"}:
            return self._integrate(name, node, x)
        weights = {
            key: torch.as_tensor(value).double() for key, value in vars(node).items() if key in _WEIGHTS
        }
        if kind == "Affine":
            return x @ weights["weight"].T + weights["bias"]
        if kind == "Scale":
            return x * weights["scale"]
        if kind == "Threshold":
            return (x > weights["threshold"]).double()
        if kind == "Flatten":
            return x.flatten(int(node.start_dim) + 1, int(node.end_dim) + (node.end_dim >= 0))
        if kind == "SumPool2d":
            sizes = [tuple(map(int, size)) for size in (node.kernel_size, node.stride, node.padding)]
            return F.avg_pool2d(x, *sizes, divisor_override=1)
        assert kind in {"Conv1d", "Conv2d"}
        convolve = F.conv1d if kind == "Conv1d" else F.conv2d
        sizes = [tuple(np.atleast_1d(size).tolist()) for size in (node.stride, node.padding, node.dilation)]
        return convolve(x, weights["weight"], weights["bias"], *sizes, int(node.groups))

    def _integrate(self, name, node, x):
        v = self.potentials.get(name, 0) + torch.as_tensor(node.r).double() * x
        self.potentials[name] = v
        if type(node).__name__ == "I":
            return v
        threshold = torch.as_tensor(node.v_threshold).double()
        spikes = (v > threshold).double()
        reset = v - threshold if self.subtracts else torch.as_tensor(node.v_reset).double()
        self.potentials[name] = torch.where(spikes > 0, reset, v)
        return spikes


_WEIGHTS = {"weight", "bias", "scale", "threshold"}


# Graphs --------------------------------------------------------------------------------------------

UNIT = torch.tensor(0.5)
RANDOM = np.random.default_rng()


@pytest.fixture(autouse=True)
def seeded():
    """The same numbers in every test, whatever ran before it."""
    RANDOM.bit_generator.state = np.random.default_rng(5).bit_generator.state


def codes(*shape: int) -> Tensor:
    """Weights of 4 bits."""
    return torch.tensor(RANDOM.integers(-7, 8, shape), dtype=torch.int8)


def whole(low: int, high: int, *shape: int) -> Tensor:
    """Integers of neurons."""
    return torch.tensor(RANDOM.integers(low, high, shape), dtype=torch.int64)


def fire(channels: int, threshold: int, *, axes: int = 2, fraction_bits: int = 0) -> IntegrateFire:
    """Neurons with a threshold, bias and first potential of their own for every channel."""
    shape = (channels, *[1] * axes)
    low, high = threshold, threshold + 5
    return IntegrateFire(
        whole(low, high, *shape), whole(-3, 4, *shape), whole(0, threshold, *shape), fraction_bits
    )


def network(shape: tuple[int, ...], *ops: tuple, output: str = "", **contract: object) -> Graph:
    """Nodes of (name, op, inputs, shape) behind an input of integers 0..15; a node's source is net.NAME."""
    nodes = [Node("input", Input(unit=1.0, high=15), (), shape, "", UNIT)]
    nodes += [Node(name, op, inputs, after, f"net.{name}", UNIT) for name, op, inputs, after in ops]
    return Graph(
        tuple(nodes), (output or nodes[-1].name,), Level.SPIKING, Contract(**{"timesteps": STEPS, **contract})
    )


def conv(out: int, ins: int, size: int = 3, **fields: object) -> Conv:
    """A convolution that keeps the size."""
    return Conv(codes(out, ins, size, size), bits=4, step=UNIT, **{"padding": (size // 2,) * 2, **fields})


def chain(**contract: object) -> Graph:
    """conv, IF, conv of stride 2, IF with fraction bits, flatten, linear, read-out; all with biases."""
    return network(
        (2, 6, 6),
        ("conv1", conv(3, 2), ("input",), (3, 6, 6)),
        ("fire1", fire(3, 200), ("conv1",), (3, 6, 6)),
        ("conv2", conv(4, 3, stride=(2, 2)), ("fire1",), (4, 3, 3)),
        ("fire2", fire(4, 90, fraction_bits=3), ("conv2",), (4, 3, 3)),
        ("flat", Reshape(), ("fire2",), (36,)),
        ("linear", Linear(codes(5, 36), bits=4, step=UNIT), ("flat",), (5,)),
        ("readout", Integrate(whole(-3, 4, 5), whole(0, 9, 5)), ("linear",), (5,)),
        **contract,
    )


def residual(**contract: object) -> Graph:
    """Two branches with integer multipliers into neurons of their own bias, then x + x."""
    three, image = torch.tensor(3), (3, 4, 4)
    return network(
        (2, 4, 4),
        ("conv1", conv(3, 2), ("input",), image),
        ("fire1", fire(3, 150), ("conv1",), image),
        ("conv2", conv(3, 3), ("fire1",), image),
        ("sum", Add((torch.tensor(1), three.reshape(1, 1, 1))), ("conv2", "fire1"), image),
        ("fire2", fire(3, 40, fraction_bits=2), ("sum",), image),
        ("twice", Add((torch.tensor(1), torch.tensor(1))), ("fire2", "fire2"), image),
        ("fire3", fire(3, 2), ("twice",), image),
        **contract,
    )


def pooled(**contract: object) -> Graph:
    """Sum pooling with padding, a depthwise convolution, a concatenation, a per-channel scale."""
    return network(
        (2, 6, 6),
        ("fire0", fire(2, 20), ("input",), (2, 6, 6)),
        ("pool", AvgPool((3, 3), (2, 2), (1, 1)), ("fire0",), (2, 3, 3)),
        ("deep", conv(4, 1, groups=2), ("pool",), (4, 3, 3)),
        ("fire1", fire(4, 30), ("deep",), (4, 3, 3)),
        ("both", Concat(), ("fire1", "pool"), (6, 3, 3)),
        ("scale", Scale(codes(6, 1, 1), bits=4, step=UNIT), ("both",), (6, 3, 3)),
        ("fire2", fire(6, 9), ("scale",), (6, 3, 3)),
        **contract,
    )


def one_axis(**contract: object) -> Graph:
    """Conv1d and sum pooling along one axis, neurons that pass currents on, a slice and a padding."""
    everyother = torch.arange(3 * 8).reshape(3, 8)[:, ::2]
    padded = torch.cat([torch.full((1, 4), -1), torch.arange(12).reshape(3, 4)])
    weight = Conv(codes(3, 2, 3), None, (1,), (1,), (1,), bits=4, step=UNIT)
    return network(
        (2, 8),
        ("conv", weight, ("input",), (3, 8)),
        ("fire1", fire(3, 100, axes=1), ("conv",), (3, 8)),
        ("slice", Gather(everyother), ("fire1",), (3, 4)),
        ("pad", Gather(padded), ("slice",), (4, 4)),
        ("pool", AvgPool((2,), (2,), (0,)), ("pad",), (4, 2)),
        ("carry", Integrate(whole(1, 4, 4, 1), whole(1, 9, 4, 1)), ("pool",), (4, 2)),
        ("again", Conv(codes(2, 4, 1), None, (1,), (0,), (1,), bits=4, step=UNIT), ("carry",), (2, 2)),
        ("fire2", fire(2, 25, axes=1), ("again",), (2, 2)),
        **contract,
    )


def placed(**contract: object) -> Graph:
    """A bias that differs from place to place, which no convolution can hold."""
    op = IntegrateFire(torch.tensor(60), whole(-5, 6, 2, 4, 4), whole(0, 50, 2, 4, 4))
    return network(
        (2, 4, 4), ("conv", conv(2, 2), ("input",), (2, 4, 4)), ("fire", op, ("conv",), (2, 4, 4)), **contract
    )


def single(op: object, before: tuple[int, ...], after: tuple[int, ...]) -> Graph:
    """One op between the input and neurons."""
    neurons = IntegrateFire(torch.tensor(3), torch.tensor(0), torch.tensor(0))
    return network(before, ("layer", op, ("input",), after), ("fire", neurons, ("layer",), after))


def forked(**contract: object) -> Graph:
    """One convolution that two populations read, each with a bias and fraction bits of its own."""
    image = (3, 4, 4)
    return network(
        (2, 4, 4),
        ("conv", conv(3, 2), ("input",), image),
        ("fire1", fire(3, 60), ("conv",), image),
        ("fire2", fire(3, 90, fraction_bits=2), ("conv",), image),
        ("sum", Add((torch.tensor(2), torch.tensor(1))), ("fire1", "fire2"), image),
        ("fire3", fire(3, 3), ("sum",), image),
        **contract,
    )


GRAPHS = {
    "chain": chain,
    "forked": forked,
    "residual": residual,
    "pooled": pooled,
    "one_axis": one_axis,
    "placed": placed,
}


def lone(threshold: int, **contract: object) -> Graph:
    """Neurons alone."""
    op = IntegrateFire(torch.tensor(threshold), torch.tensor(0), torch.tensor(0))
    return network((2, 2, 2), ("fire", op, ("input",), (2, 2, 2)), **contract)


def without_first_potentials(graph: Graph) -> Graph:
    """The same network where every neuron starts at 0."""
    ops = {
        node.name: replace(node.op, initial=torch.zeros(1, dtype=torch.int64))
        for node in graph.of(IntegrateFire, Integrate)
    }
    return graph.with_ops(ops)


def samples(graph: Graph, count: int = 2) -> Tensor:
    """Integers, since the unit of the input is 1."""
    return torch.tensor(RANDOM.integers(0, 16, (count, *graph.inputs[0].shape)), dtype=torch.float64)


def expected(graph: Graph, x: Tensor) -> dict[str, Tensor]:
    """By the reference engine: the spikes of every population, the potentials of the read-out."""
    found = {}

    def watch(node, activity):
        found[node.name] = activity.train if isinstance(node.op, IntegrateFire) else activity.potentials

    simulate(graph, x, delay=0, potentials=True, watch=watch)
    return {name: train.double() for name, train in found.items()}


def interpreted(path, graph: Graph, x: Tensor, **kinds: bool) -> dict[str, Tensor]:
    """By NIR's equations."""
    return Interpreter(nir.read(path), **kinds).run(x.expand(graph.timing.timesteps, *x.shape))


def table(path) -> dict:
    """The loss table beside a file."""
    return json.loads(path.with_name(f"{path.name}.loss.json").read_text("utf-8"))


def rows(losses, layer: str) -> list[str]:
    """What is lost of one layer."""
    return [loss.what for loss in losses if loss.layer == layer]


# What a file says ----------------------------------------------------------------------------------


@pytest.mark.parametrize("reset_mode", Reset)
@pytest.mark.parametrize("name", GRAPHS)
def test_a_composite_fires_exactly_as_the_reference(tmp_path, name, reset_mode):
    """By NIR's own equations every spike is the reference's: biases, first potentials, sums and all."""
    graph = GRAPHS[name](reset_mode=reset_mode)
    x = samples(graph)
    write(graph, tmp_path / "a.nir", flavor="composite")
    wanted, found = expected(graph, x), interpreted(tmp_path / "a.nir", graph, x)
    for node in graph.of(IntegrateFire):
        assert 0.02 < wanted[node.name].mean() < 0.98, "a test of silence proves nothing"
        assert torch.equal(found[node.name], wanted[node.name]), node.name


def test_a_composite_reads_out_the_potential(tmp_path):
    """The output of a network that ends in a read-out is its potential after every step."""
    graph = chain()
    x = samples(graph)
    write(graph, tmp_path / "a.nir", flavor="composite")
    found = interpreted(tmp_path / "a.nir", graph, x)["readout_output"]
    assert torch.equal(found, expected(graph, x)["readout"])


@pytest.mark.parametrize("flavor", ["plain", "norse"])
@pytest.mark.parametrize("name", ["chain", "residual", "pooled"])
def test_reset_to_zero_needs_no_composite(tmp_path, name, flavor):
    """IF as NIR documents it is exact where a spike sets the potential to 0 and neurons start at 0."""
    graph = without_first_potentials(GRAPHS[name](reset_mode=Reset.ZERO, rounding=Rounding.NONE))
    x = samples(graph)
    losses = write(graph, tmp_path / "a.nir", flavor=flavor)
    wanted, found = expected(graph, x), interpreted(tmp_path / "a.nir", graph, x)
    assert all(torch.equal(found[node.name], wanted[node.name]) for node in graph.of(IntegrateFire))
    assert not [loss.what for loss in losses if "reset" in loss.what or "V = threshold" in loss.what]


def test_a_plain_file_is_not_exact_and_says_so(tmp_path):
    """IF sets V to a value: where a spike subtracts, spikes differ and the table names reset and ties."""
    graph = without_first_potentials(chain())
    x = samples(graph)
    losses = write(graph, tmp_path / "a.nir")
    wanted, found = expected(graph, x), interpreted(tmp_path / "a.nir", graph, x)
    assert not torch.equal(found["fire1"], wanted["fire1"])
    assert rows(losses, "fire1") == ["reset by subtraction", "that V = threshold fires"]


@pytest.mark.parametrize(
    ("threshold", "current", "wanted", "found"),
    [
        (5, 4, [0, 1, 1, 1], [0, 1, 1, 1]),  # V = 4 8 7 6
        (4, 2, [0, 1, 0, 1], [0, 0, 1, 0]),  # V = 2 4 2 4: the spike at V = 4 comes a step later
    ],
)
def test_nir_1_0_4_loses_ties_only(tmp_path, threshold, current, wanted, found):
    """IF of nir 1.0.4 subtracts: by hand, exact until a potential meets its threshold, as the table says."""
    graph = lone(threshold, timesteps=4)
    x = torch.full((1, 2, 2, 2), float(current))
    losses = write(graph, tmp_path / "a.nir", flavor="nir1.0.4")
    assert expected(graph, x)["fire"][:, 0, 0, 0, 0].tolist() == wanted
    trains = interpreted(tmp_path / "a.nir", graph, x, subtracts=True)
    assert trains["fire"][:, 0, 0, 0, 0].tolist() == found
    assert rows(losses, "fire") == ["that V = threshold fires"]


@pytest.mark.parametrize(
    ("flavor", "contract", "drop"),
    [
        ("plain", {}, 0.0),
        ("plain", {"reset_mode": Reset.ZERO}, 0.5),
        ("composite", {}, 0.5),
        ("nir1.0.4", {"reset_mode": Reset.ZERO}, 0.0),
        ("sinabs", {}, 0.0),
        ("spikingjelly", {"reset_mode": Reset.ZERO}, 0.0),
        ("snntorch", {}, 0.0),
        ("norse", {}, 0.5),
    ],
)
def test_half_a_unit_comes_off_where_no_reader_subtracts_it(tmp_path, flavor, contract, drop):
    """V > threshold - 1/2 is V >= threshold for integers; what subtracts must be given the threshold."""
    graph = lone(7, **contract)
    write(graph, tmp_path / "a.nir", flavor=flavor)
    node = nir.read(tmp_path / "a.nir").nodes["fire"]
    limits = node.threshold if isinstance(node, nir.Threshold) else node.v_threshold
    assert np.array_equal(limits, np.full((2, 2, 2), 7 - drop, np.float32))


# The file ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flavor", FLAVORS)
def test_every_flavor_passes_nirs_own_type_check(tmp_path, flavor):
    """`nir.read` checks that the types of all edges agree, and finds float32 numbers that are integers."""
    graph = chain()
    uniform = {name: replace(graph[name].op, threshold=torch.tensor(70)) for name in ("fire1", "fire2")}
    write(graph.with_ops(uniform), tmp_path / "a.nir", flavor=flavor)
    found = nir.read(tmp_path / "a.nir")
    weight = found.nodes["conv2"].weight
    assert weight.dtype == np.float32
    assert np.array_equal(weight, graph["conv2"].op.weight.numpy() * 8.0)  # its neurons have 3 fraction bits


@pytest.mark.parametrize("flavor", FLAVORS)
def test_a_flavor_holds_only_nodes_that_its_reader_takes(tmp_path, flavor):
    """Whatever a reader lacks is written in another form, or refused."""
    graph = pooled()
    uniform = {node.name: replace(node.op, threshold=torch.tensor(9)) for node in graph.of(IntegrateFire)}
    write(graph.with_ops(uniform), tmp_path / "a.nir", flavor=flavor)
    kinds = {type(node).__name__ for node in nir.read(tmp_path / "a.nir").nodes.values()}
    assert kinds <= TABLE[flavor].nodes | {"Input", "Output"}
    pools = "SumPool2d" in kinds
    assert pools == (flavor in {"plain", "composite", "nir1.0.4"})  # this one has padding


@pytest.mark.parametrize(("size", "kind"), [(3, "SumPool2d"), (5, "Conv2d")])
def test_sinabs_pools_by_a_convolution_where_its_pooling_would_round(tmp_path, size, kind):
    """It divides by the area and multiplies again: s/9·9 is s, s/25·25 may not be."""
    graph = single(AvgPool((size, size), (size, size), (0, 0)), (2, 15, 15), (2, 15 // size, 15 // size))
    write(graph, tmp_path / "a.nir", flavor="sinabs")
    assert type(nir.read(tmp_path / "a.nir").nodes["layer"]).__name__ == kind


@pytest.mark.parametrize("flavor", ["nir1.0.4", "sinabs"])
def test_old_readers_meet_neither_v_reset_nor_metadata(tmp_path, flavor):
    """nir 1.0.4 raises TypeError on either, so the file has none at any depth; others have both."""

    def keys(path) -> set[str]:
        found: set[str] = set()
        with h5py.File(path) as file:
            file.visit(lambda name: found.add(name.rpartition("/")[2]))
        return found

    write(chain(), tmp_path / "old.nir", flavor=flavor)
    write(chain(), tmp_path / "new.nir")
    assert not keys(tmp_path / "old.nir") & {"v_reset", "metadata"}
    assert {"v_reset", "metadata"} <= keys(tmp_path / "new.nir")


def test_spikingjelly_is_given_the_resistance_that_it_demands(tmp_path):
    """It accepts an IF only where r is 1/dt, and its dt is 1e-4."""
    write(lone(7), tmp_path / "a.nir", flavor="spikingjelly")
    assert np.array_equal(nir.read(tmp_path / "a.nir").nodes["fire"].r, np.full((2, 2, 2), 1e4, np.float32))


def test_the_same_graph_gives_the_same_bytes(tmp_path):
    """File and loss table are the same for the same network, under any name."""
    graph = residual()
    for name in ("a.nir", "b.nir"):
        write(graph.map_tensors(torch.clone), tmp_path / name, flavor="composite")
    assert (tmp_path / "a.nir").read_bytes() == (tmp_path / "b.nir").read_bytes()
    assert (tmp_path / "a.nir.loss.json").read_bytes() == (tmp_path / "b.nir.loss.json").read_bytes()


def test_names_that_readers_stumble_over_are_changed(tmp_path):
    """Dots, colons, keywords and attributes of torch modules go; two names never become one."""
    op = IntegrateFire(torch.tensor(7), torch.tensor(0), torch.tensor(0))
    ops = [("a.b:2", ("input",)), ("a_b_2", ("a.b:2",)), ("if", ("a_b_2",)), ("type", ("if",))]
    graph = network((2, 2, 2), *((name, op, inputs, (2, 2, 2)) for name, inputs in ops))
    write(graph, tmp_path / "a.nir")
    assert table(tmp_path / "a.nir")["populations"] == {
        "a_b_2": "a.b:2",
        "a_b_2_2": "a_b_2",
        "n_if": "if",
        "n_type": "type",
    }
    assert {"a_b_2", "a_b_2_2", "n_if", "n_type"} <= set(nir.read(tmp_path / "a.nir").nodes)


def test_numbers_that_float32_would_change_stay_float64(tmp_path):
    """A threshold of 2^24 + 1 arrives as it is, and the table warns of float32."""
    op = IntegrateFire(torch.tensor(2**24 + 1), torch.tensor(0), torch.tensor(2**24))
    graph = network((1, 1, 1), ("fire", op, ("input",), (1, 1, 1)), timesteps=8)
    losses = write(graph, tmp_path / "a.nir")
    assert nir.read(tmp_path / "a.nir").nodes["fire"].v_threshold.item() == 2**24 + 1
    assert any("sums that may reach" in loss.what for loss in losses)


# The loss table ------------------------------------------------------------------------------------


def test_the_loss_table_lies_beside_the_file(tmp_path):
    """NAME.nir.loss.json holds what `write` returned, the contract, the codings and the file's hash."""
    graph = chain()
    losses = write(graph, tmp_path / "a.nir", flavor="sinabs")
    document = table(tmp_path / "a.nir")
    assert document["schema"] == "ann2snn/nir-loss/1"
    assert document["sha256"] == hashlib.sha256((tmp_path / "a.nir").read_bytes()).hexdigest()
    assert document["contract"]["flavor"] == "sinabs"
    assert document["contract"]["timesteps"] == STEPS
    assert document["inputs"] == {"input": {"layer": "input", "unit": 1.0, "low": 0, "high": 15}}
    assert document["outputs"] == {"readout_output": {"layer": "readout", "unit": [0.5]}}
    assert document["weight_bits"] == {"conv1": 4, "conv2": 4, "linear": 4}
    assert [tuple(row.values()) for row in document["losses"]] == [
        (loss.layer, loss.source, loss.what, loss.effect, spelled(loss.remedy, as_words)) for loss in losses
    ]


def test_a_remedy_reads_as_who_reads_it_types(tmp_path):
    """On the command line it is a flag; in the file, which Python writes too, it is words of neither."""
    losses = write(chain(delay=1), tmp_path / "a.nir")
    remedies = [row["remedy"] for row in table(tmp_path / "a.nir")["losses"]]
    charge = "flavor composite, or convert with rounding bias (which drops the rest of the bias)"
    assert charge in remedies
    assert "convert with delay 0, or hand over the .pth" in remedies
    assert not any(sign in remedy for remedy in remedies for sign in ("='", "--", "‹"))
    flags = [in_flags(loss.remedy) for loss in losses]
    assert charge.replace("flavor", "--flavor").replace("rounding", "--rounding") in flags
    assert "convert with --delay 0, or hand over the .pth" in flags


def test_the_loss_table_of_a_plain_file(tmp_path):
    """By population reset, ties and first potential; for the network steps, coding, time and widths."""
    losses = write(chain(), tmp_path / "a.nir")
    assert rows(losses, WHOLE_NETWORK) == [
        f"the number of steps, {STEPS}",
        "the time step",
        "that all numbers are integers, and their widths",
    ]
    assert rows(losses, "input") == ["the coding of the input"]
    (first, *others) = rows(losses, "fire2")
    assert first.startswith("the first potential, up to ")
    assert others == ["reset by subtraction", "that V = threshold fires"]
    assert all(loss.source == "net.fire2" for loss in losses if loss.layer == "fire2")
    assert all(loss.effect and loss.remedy for loss in losses)


def test_a_composite_loses_nothing_of_its_neurons(tmp_path):
    """What remains is the contract around the network."""
    losses = write(chain(), tmp_path / "a.nir", flavor="composite")
    assert {loss.layer for loss in losses} == {WHOLE_NETWORK, "input"}


@pytest.mark.parametrize("delay", [0, 1, STEPS])
def test_a_delay_is_a_loss(tmp_path, delay):
    """A reader of NIR fires at once."""
    losses = write(chain(delay=delay), tmp_path / "a.nir", flavor="composite")
    assert (f"the firing delay of {delay}" in rows(losses, WHOLE_NETWORK)) == (delay > 0)


@pytest.mark.parametrize(
    ("layer", "words"), [("deep", "2 groups"), ("both", "a concatenation"), ("pool", "a sum pooling as such")]
)
def test_what_is_written_in_another_form_is_told(tmp_path, layer, words):
    """Groups, concatenations and pooling become convolutions: the same values, and a row that says so."""
    losses = write(pooled(), tmp_path / "a.nir", flavor="norse")
    (loss,) = [loss for loss in losses if loss.layer == layer and words in loss.what]
    assert loss.effect.startswith("none: the same values")


@pytest.mark.parametrize(("flavor", "told"), [("norse", True), ("sinabs", True), ("plain", False)])
def test_readers_that_join_branches_too_early_are_told(tmp_path, flavor, told):
    """norse and sinabs may run what follows a sum before one of its branches."""
    losses = write(residual(), tmp_path / "a.nir", flavor=flavor)
    assert ("that all branches come before their sum" in rows(losses, "sum")) == told


# Refusals ------------------------------------------------------------------------------------------


def refused(graph: Graph, path, flavor: str = "plain") -> UnsupportedNetwork:
    """The error, and nothing is written."""
    with pytest.raises(UnsupportedNetwork) as caught:
        write(graph, path / "a.nir", flavor=flavor)
    assert not list(path.iterdir())
    return caught.value


def test_all_refusals_come_at_once_with_the_users_names(tmp_path):
    """Three layers that NIR cannot say are named together."""
    pool = MaxPool((2, 2), (2, 2), (0, 0), (1, 1))
    graph = network(
        (2, 4, 4),
        ("pool", pool, ("input",), (2, 2, 2)),
        ("up", conv(2, 2, transposed=True), ("pool",), (2, 2, 2)),
        ("gelu", Opaque("aten.gelu.default", (Ref(0),)), ("up",), (2, 2, 2)),
        ("fire", IntegrateFire(torch.tensor(3), torch.tensor(0), torch.tensor(0)), ("gelu",), (2, 2, 2)),
    )
    error = refused(graph, tmp_path)
    assert error.where == "net.pool, net.up, net.gelu"
    for reason in ("no max pooling", "no transposed convolution", "no GELU"):
        assert reason in error.what
    assert error.remedy


DEEP = Conv(
    torch.ones(1, 1, 1, 1, 1, dtype=torch.int8), None, (1,) * 3, (0,) * 3, (1,) * 3, bits=1, step=UNIT
)


@pytest.mark.parametrize(
    ("op", "before", "after", "reason"),
    [
        (DEEP, (1, 2, 2, 2), (1, 2, 2, 2), "no convolution with 3 axes"),
        (AvgPool((1, 1, 1), (1, 1, 1), (0, 0, 0)), (1, 2, 2, 2), (1, 2, 2, 2), "no convolution with 3 axes"),
        (Concat(), (2, 2, 2, 2), (2, 2, 2, 2), "no convolution with 3 axes"),
        (Permute((0, 2, 1)), (2, 3, 4), (2, 4, 3), "axes in another order"),
        (Reshape(), (8,), (2, 2, 2), "no flattening"),
        (Gather(torch.tensor([[[1, 0], [3, 2]]])), (1, 2, 2), (1, 2, 2), "a selection"),
        (Linear(torch.ones(2, 3, dtype=torch.int8), bits=2, step=UNIT), (4, 3), (4, 2), "one axis"),
    ],
)
def test_a_layer_that_nir_cannot_say_is_refused(tmp_path, op, before, after, reason):
    """Each with the layer's name in the user's network and the reason."""
    error = refused(single(op, before, after), tmp_path)
    assert error.where == "net.layer"
    assert reason in error.what


@pytest.mark.parametrize("flavor", ["sinabs", "norse"])
def test_a_reader_without_conv1d_is_told_in_time(tmp_path, flavor):
    """The reader would fail on the file; the tool refuses to write it."""
    assert "no convolution with 1 axes in this flavor" in refused(one_axis(), tmp_path, flavor).what


@pytest.mark.parametrize("flavor", ["spikingjelly", "snntorch"])
def test_a_reader_with_one_threshold_a_population_is_told_in_time(tmp_path, flavor):
    """They refuse an IF whose thresholds differ."""
    error = refused(chain(), tmp_path, flavor)
    assert error.where == "net.fire1, net.fire2"
    assert "channel_wise=False" in str(error)


def test_a_bias_by_place_needs_the_composite(tmp_path):
    """No convolution holds it, and IF has none."""
    error = refused(placed(), tmp_path)
    assert error.where == "net.fire"
    assert "flavor='composite'" in str(error)


def test_floats_are_refused(tmp_path):
    """A network of 32 bits has no integers to hand over."""
    weight = Conv(torch.ones(2, 2, 1, 1), bits=32)
    error = refused(single(weight, (2, 2, 2), (2, 2, 2)), tmp_path)
    assert "weight_bitwidth of 1 to 8" in str(error)


def test_an_unknown_flavor_is_refused(tmp_path):
    """With the names that there are."""
    with pytest.raises(UsageError, match="spyx") as caught:
        write(chain(), tmp_path / "a.nir", flavor="spyx")
    assert "composite" in caught.value.remedy


def test_without_nir_the_extra_is_named(tmp_path, monkeypatch):
    """The library is an extra; nothing is written without it."""
    monkeypatch.setitem(sys.modules, "nir", None)
    with pytest.raises(Ann2SnnError) as caught:
        write(chain(), tmp_path / "a.nir")
    assert caught.value.remedy == 'pip install "ann2snn[nir]"'
    assert not list(tmp_path.iterdir())


# Files that are not ours ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.nir", "a.nir.loss.json"])
def test_foreign_files_are_not_replaced(tmp_path, name):
    """Neither the file nor the table beside it, unless --overwrite says so."""
    (tmp_path / name).write_text("{}")
    with pytest.raises(BadFile) as caught:
        write(chain(), tmp_path / "a.nir")
    assert "overwrite=True" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    write(chain(), tmp_path / "a.nir", overwrite=True)
    assert nir.read(tmp_path / "a.nir").nodes


def test_an_earlier_file_of_ours_is_replaced_unless_it_was_changed(tmp_path):
    """The table knows the bytes of its file."""
    write(chain(), tmp_path / "a.nir")
    write(chain(), tmp_path / "a.nir", flavor="composite")
    with (tmp_path / "a.nir").open("ab") as file:
        file.write(b"by another hand")
    with pytest.raises(BadFile, match="changed since ann2snn wrote it"):
        write(chain(), tmp_path / "a.nir")


def test_a_loss_table_that_was_changed_is_not_replaced(tmp_path):
    """Somebody's notes in it."""
    write(chain(), tmp_path / "a.nir")
    table = tmp_path / "a.nir.loss.json"
    table.write_text(table.read_text().replace('"losses"', '"mine": 1, "losses"'))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(BadFile, match="changed since ann2snn wrote it"):
        write(chain(), tmp_path / "a.nir", flavor="composite")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_file_and_its_table_are_replaced_as_one(tmp_path, monkeypatch):
    """A full disk where the table is written: both are as they were."""
    write(chain(), tmp_path / "a.nir")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(document):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ann2snn_cli.stages.export.nir.writing.as_sealed_json", fail)
    with pytest.raises(OSError, match="No space"):
        write(chain(), tmp_path / "a.nir", flavor="composite")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


# Replay --------------------------------------------------------------------------------------------


def test_readers_are_named_with_their_versions():
    """None stands for a reader that is not installed."""
    found = readers()
    assert list(found) == ["nirtorch", "sinabs", "spikingjelly", "norse"]
    assert all(version is None or version[0].isdigit() for version in found.values())


@pytest.fixture
def uninstalled(monkeypatch):
    """No reader at all."""
    monkeypatch.setattr(replaying, "_version", lambda name: None)


@pytest.mark.usefixtures("uninstalled")
def test_nothing_is_claimed_without_a_reader(tmp_path):
    """The error says so and how to get one."""
    write(chain(), tmp_path / "a.nir", flavor="composite")
    with pytest.raises(Ann2SnnError, match="nothing was replayed") as caught:
        replay(tmp_path / "a.nir", chain(), torch.zeros(1, 2, 6, 6), run_engine)
    assert caught.value.remedy == "pip install nirtorch"


def test_snntorch_is_no_reader_for_a_replay(tmp_path):
    """Its import does not run; the error names the readers that do."""
    write(lone(7), tmp_path / "a.nir", flavor="snntorch")
    with pytest.raises(UsageError, match="snntorch") as caught:
        replay(tmp_path / "a.nir", lone(7), torch.zeros(1, 2, 2, 2), run_engine)
    assert "nirtorch" in caught.value.remedy


def test_a_file_that_was_changed_is_not_replayed(tmp_path):
    """What is counted belongs to the network whose table lies there."""
    write(chain(), tmp_path / "a.nir")
    (tmp_path / "a.nir").write_bytes(b"other")
    with pytest.raises(BadFile, match="loss table"):
        replay(tmp_path / "a.nir", chain(), torch.zeros(1, 2, 6, 6), run_engine)


@pytest.fixture
def reader(monkeypatch):
    """A reader that drops one spike of fire1 and adds two to fire2."""

    def run(graph, flavor, presented, populations):
        found = Interpreter(graph).run(presented)
        trains = {name: found[name].clone() for name in populations}
        trains["fire1"].view(-1)[trains["fire1"].flatten().nonzero()[0]] = 0
        trains["fire2"].view(-1)[(trains["fire2"].flatten() == 0).nonzero()[:2]] = 1
        return trains

    monkeypatch.setattr(replaying, "_version", lambda name: "1.0")
    monkeypatch.setitem(replaying._READERS, "nirtorch", run)


@pytest.mark.usefixtures("reader")
def test_agreement_is_counted_spike_by_spike(tmp_path):
    """A spike too few and two too many: share = both / either."""
    graph = chain(delay=2)  # which no reader has: it is compared with a delay of 0
    x = samples(graph)
    write(graph, tmp_path / "a.nir", flavor="composite")
    one, two = replay(tmp_path / "a.nir", graph, x, run_engine)
    wanted = {name: int(train.sum()) for name, train in expected(graph, x).items()}
    assert (one.layer, one.source) == ("fire1", "net.fire1")
    assert (one.spikes, one.replayed, one.agreeing) == (
        wanted["fire1"],
        wanted["fire1"] - 1,
        wanted["fire1"] - 1,
    )
    assert (two.spikes, two.replayed, two.agreeing) == (
        wanted["fire2"],
        wanted["fire2"] + 2,
        wanted["fire2"],
    )
    assert one.share == (wanted["fire1"] - 1) / wanted["fire1"]
    assert two.share == wanted["fire2"] / (wanted["fire2"] + 2)


@pytest.mark.parametrize("name", GRAPHS)
def test_nirtorch_fires_exactly_as_the_reference(tmp_path, name):
    """Run where nirtorch is installed: its wiring, order and delay agree with the oracle's."""
    pytest.importorskip("nirtorch", reason="nirtorch is not installed: nothing replays a NIR file")
    graph = GRAPHS[name]()
    write(graph, tmp_path / "a.nir", flavor="composite")
    agreements = replay(tmp_path / "a.nir", graph, samples(graph), run_engine)
    assert [agreement.layer for agreement in agreements] == [node.name for node in graph.of(IntegrateFire)]
    assert all(agreement.spikes == agreement.replayed == agreement.agreeing for agreement in agreements)


def ran(module: torch.nn.Module, *inputs: float) -> list[float]:
    """What a module of one neuron gives, step by step."""
    state, found = None, []
    for x in inputs:
        value, state = module(torch.tensor([x]), state)
        found.append(float(value))
    return found


def test_the_modules_for_nirtorch_are_the_documented_equations():
    """Hand-computed: IF with a threshold of 4 fed 3 at each step, by both resets; I; dt = 1/r."""
    one = np.ones(1, np.float32)
    node = nir.IF(r=one, v_threshold=4 * one, v_reset=0 * one)
    assert ran(modules(TABLE["plain"])["IF"](node), 3, 3, 3, 1, 1) == [0, 1, 0, 0, 1]
    assert ran(modules(TABLE["nir1.0.4"])["IF"](node), 3, 3, 3, 1, 1) == [0, 1, 1, 0, 0]
    fast = nir.IF(r=1e4 * one, v_threshold=4 * one, v_reset=0 * one)
    assert ran(modules(TABLE["spikingjelly"])["IF"](fast), 3, 3, 3, 1, 1) == [0, 1, 0, 0, 1]
    assert ran(modules(TABLE["plain"])["I"](nir.I(r=2 * one)), 1, 2, 3) == [2, 6, 12]
    above = modules(TABLE["composite"])["Threshold"](nir.Threshold(threshold=4 * one))
    assert [float(above(torch.tensor([x]))) for x in (3.0, 4.0, 5.0)] == [0, 0, 1]


def test_the_modules_for_nirtorch_keep_bias_padding_and_batch():
    """What nirtorch 2.6 drops by itself."""
    kinds = modules(TABLE["plain"])
    affine = kinds["Affine"](nir.Affine(weight=np.ones((1, 2), np.float32), bias=np.full(1, 5, np.float32)))
    assert float(affine(torch.tensor([[1.0, 2.0]]))) == 8
    two = np.array([2, 2])
    pool = kinds["SumPool2d"](nir.SumPool2d(kernel_size=two, stride=two, padding=np.array([1, 1])))
    assert torch.equal(pool(torch.ones(1, 1, 2, 2)), torch.ones(1, 1, 2, 2))
    flat = kinds["Flatten"](nir.Flatten({"input": np.array([2, 3])}, start_dim=0, end_dim=-1))
    assert flat(torch.zeros(7, 2, 3)).shape == (7, 6)
