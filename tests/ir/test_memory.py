"""Memory: what stepping a network takes follows from its shapes, and is refused where it is not there."""

import pytest
import torch

from ann2snn_cli.errors import UsageError
from ann2snn_cli.ir import memory
from ann2snn_cli.ir.contract import Contract
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.ops import Add, Input, Integrate, Reshape
from ann2snn_cli.stages.simulate import simulate

ONE = torch.tensor(1.0, dtype=torch.float64)


def branched(timesteps: int) -> Graph:
    """An input of 100 values that is read twice: 100 + 100 + 3·100 are alive at the add."""
    weights = (torch.tensor(1), torch.tensor(1))
    nodes = (
        Node("in", Input(1.0), (), (100,), unit=ONE),
        Node("moved", Reshape(), ("in",), (100,), unit=ONE),
        Node("both", Add(weights), ("in", "moved"), (100,), unit=ONE),
        Node("out", Integrate(), ("both",), (100,), unit=ONE),
    )
    return Graph(nodes, ("out",), Level.SPIKING, Contract(timesteps))


def test_a_step_takes_what_is_alive_at_once_and_not_the_whole_network():
    """By hand: two inputs of the add, and the add with two copies, 8 bytes each."""
    assert memory.step_bytes(branched(4)) == 5 * 100 * 8


def test_steps_that_do_not_fit_are_refused_before_they_are_taken(monkeypatch):
    """The words say what is needed, and how many fit: as many are run. A closed form takes none."""
    monkeypatch.setattr(memory, "free_bytes", lambda device: 20 * 4000 + 1)
    with pytest.raises(UsageError, match="21 steps of one sample need about") as refused:
        simulate(branched(21), torch.ones(1, 100), by_step=True)
    assert "timesteps=20 or less" in str(refused.value)
    assert simulate(branched(20), torch.ones(1, 100), by_step=True).outputs[0].shape == (1, 100)
    simulate(branched(21), torch.ones(1, 100))


def test_where_the_system_does_not_tell_nothing_is_refused(monkeypatch):
    """No number is made up."""
    monkeypatch.setattr(memory, "free_bytes", lambda device: None)
    memory.refuse_too_long(branched(60_000))


def test_the_limit_of_a_container_counts(monkeypatch, tmp_path):
    """What it may use less what it uses; a container without a limit leaves what the system says."""
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    without = memory.free_bytes()
    (tmp_path / "memory.current").write_text("400\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert (memory.free_bytes() is None) == (without is None)
    (tmp_path / "memory.max").write_text("1000\n")
    assert memory.free_bytes() == 600
