"""The one value that flows through the house: what it refuses, and what it knows of itself."""

import weakref

import pytest
import torch

from ann2snn_cli.errors import InvalidGraph
from ann2snn_cli.ir.contract import Contract
from ann2snn_cli.ir.graph import Graph, Level, Node, sweep
from ann2snn_cli.ir.ops import Add, Input, Linear, Relu, map_tensors


def diamond():
    """x -> a, b; a + b + a -> sum -> relu."""
    return Graph(
        (
            Node("x", Input(), (), (2,)),
            Node("a", Linear(torch.eye(2)), ("x",), (2,)),
            Node("b", Linear(2 * torch.eye(2)), ("x",), (2,)),
            Node("sum", Add(), ("a", "b", "a"), (2,)),
            Node("relu", Relu(), ("sum",), (2,)),
        ),
        ("relu", "b"),
    )


def test_two_nodes_of_one_name_are_refused():
    """Names are keys."""
    with pytest.raises(InvalidGraph, match="two nodes are called 'x'"):
        Graph((Node("x", Input(), (), (1,)), Node("x", Input(), (), (1,))), ("x",))


def test_reading_what_comes_later_is_refused():
    """Nodes are in topological order; the message names reader and missing node."""
    with pytest.raises(InvalidGraph, match=r"'a' reads \['x'\]") as caught:
        Graph((Node("a", Relu(), ("x",), (1,), source="act"), Node("x", Input(), (), (1,))), ("a",))

    assert caught.value.where == "act"


def test_an_unknown_output_is_refused():
    """Every output is a node."""
    with pytest.raises(InvalidGraph, match=r"\['y'\] are no nodes"):
        Graph((Node("x", Input(), (), (1,)),), ("y",))


def test_users_are_listed_once_for_each_reading():
    """x is read twice, a twice by the same node, the output by none."""
    users = {name: [node.name for node in nodes] for name, nodes in diamond().users.items()}

    assert users == {"x": ["a", "b"], "a": ["sum", "sum"], "b": ["sum"], "sum": ["relu"], "relu": []}


def test_last_use():
    """Past its last reader a value can go; what nobody reads goes at once."""
    assert diamond().last_use == {"x": "b", "a": "sum", "b": "sum", "sum": "relu", "relu": "relu"}


def test_looking_things_up():
    """By name, by kind, by what feeds a node."""
    graph = diamond()

    assert graph["sum"].inputs == ("a", "b", "a")
    assert [node.name for node in graph.of(Linear, Relu)] == ["a", "b", "relu"]
    assert [node.name for node in graph.inputs] == ["x"]
    assert [node.name for node in graph.fed_by(graph["sum"])] == ["a", "b", "a"]
    assert [node.name for node in graph] == ["x", "a", "b", "sum", "relu"]


def test_changes_make_a_new_graph():
    """Graphs are values: the old one stays."""
    graph = diamond()

    other = graph.with_ops({"relu": Relu(limit=6.0)}, level=Level.FOLDED, contract=Contract(4))

    assert (graph["relu"].op.limit, graph.level, graph.contract) == (None, Level.FLOAT, None)
    assert (other["relu"].op.limit, other.level, other.timing.timesteps) == (6.0, Level.FOLDED, 4)
    assert other["a"] is graph["a"]


def test_what_a_level_does_not_have_yet_is_refused():
    """No contract below QUANTIZED, no unit below SPIKING."""
    with pytest.raises(InvalidGraph, match="FLOAT has no contract"):
        _ = diamond().timing
    with pytest.raises(InvalidGraph, match="'a' has no unit"):
        _ = diamond()["a"].known_unit


def test_every_tensor_is_mapped():
    """In ops, in nested tuples, and the units."""
    nodes = (
        Node("x", Input(), (), (1,), unit=torch.tensor(1.0)),
        Node("sum", Add((torch.tensor(2.0), torch.tensor(3.0))), ("x", "x"), (1,)),
    )

    mapped = Graph(nodes, ("sum",)).map_tensors(lambda tensor: tensor * 10)

    assert float(mapped["x"].known_unit) == 10
    assert [float(weight) for weight in mapped["sum"].op.weights] == [20, 30]
    assert map_tensors(Relu(limit=2.0), torch.neg).limit == 2.0


def test_a_sweep_visits_in_order_and_keeps_the_outputs():
    """Each node is handed the values of its inputs, once for each reading."""
    visited = []

    def compute(node, xs):
        visited.append((node.name, [int(x) for x in xs]))
        return torch.tensor(1 + sum(int(x) for x in xs))

    outputs = sweep(diamond(), compute)

    assert visited == [("x", []), ("a", [1]), ("b", [1]), ("sum", [2, 2, 2]), ("relu", [7])]
    assert {name: int(value) for name, value in outputs.items()} == {"relu": 8, "b": 2}
    assert list(outputs) == ["relu", "b"]


def test_a_sweep_drops_values_after_their_last_use():
    """A chain of 50 nodes holds two values at a time, whatever its depth."""
    nodes = [Node("0", Input(), (), (1,))]
    nodes += [Node(str(i), Relu(), (str(i - 1),), (1,)) for i in range(1, 50)]
    alive, most = weakref.WeakSet(), 0

    class Value(torch.Tensor):
        """A tensor that can be watched."""

    def compute(node, xs):
        nonlocal most
        value = torch.zeros(1).as_subclass(Value)
        alive.add(value)
        most = max(most, len(alive))
        return value

    sweep(Graph(tuple(nodes), ("49",)), compute)

    assert most == 2
