"""What steps will take is estimated from one forward and the engine that will take them."""

import pytest
import torch

from ann2snn_cli.ir.contract import Contract, Reset
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.ops import Input, Integrate, IntegrateFire, Linear
from ann2snn_cli.workflows import cost

ONE = torch.tensor(1)


def spiking(timesteps=8, reset_mode=Reset.SUBTRACTION):
    """x -> fc -> neurons -> readout."""
    unit = torch.tensor(1.0, dtype=torch.float64)
    weight = torch.eye(3, dtype=torch.int8)
    nodes = (
        Node("x", Input(unit=1.0), (), (3,), unit=unit),
        Node("fc", Linear(weight, bits=4), ("x",), (3,), unit=unit),
        Node("neurons", IntegrateFire(5 * ONE, ONE, ONE), ("fc",), (3,), unit=unit),
        Node("last", Linear(weight, bits=4), ("neurons",), (3,), unit=unit),
        Node("out", Integrate(ONE, ONE), ("last",), (3,), unit=unit),
    )
    return Graph(nodes, ("out",), Level.SPIKING, Contract(timesteps, reset_mode))


def test_an_engine_that_is_asked_for_is_estimated_for_itself():
    """The reference takes more than a forward a step, the folded engine less, the closed form one in all."""
    of = {engine: cost.forwards(spiking(), 0, engine) for engine in ("auto", "folded", "reference")}
    assert of["auto"] <= of["folded"] < 8 < of["reference"]
    assert cost.forwards(spiking(), 8) == cost.forwards(spiking(64), 64) == 1


def test_what_an_engine_cannot_run_is_estimated_for_the_one_that_will():
    """`counts` knows no delay but T, and no reset to zero."""
    assert cost.forwards(spiking(), 0, "counts") == cost.forwards(spiking(), 0)
    zero = spiking(reset_mode=Reset.ZERO)
    assert cost.forwards(zero, 8, "counts") == cost.forwards(zero, 0) > 1


@pytest.mark.parametrize(("forward", "said"), [(0.01, "16 s"), (1, "27 min"), (10, "4 h")])
def test_work_that_is_too_large_is_said_in_minutes_and_hours(monkeypatch, forward, said):
    """200 samples with 8 steps of half a forward, at each of two delays."""
    monkeypatch.setattr(cost, "forward_seconds", lambda graph: forward)
    monkeypatch.setitem(cost.STEP, "folded", 0.5)

    line = cost.line(spiking(), 200, (0, 8), "folded")

    assert line.startswith(f"200 samples to step, 8 steps each: about {said} and ")


def test_a_forward_is_timed_with_one_sample_where_that_takes_long(monkeypatch):
    """A large network is not run sixteen times to say that it is large."""
    asked = []
    monkeypatch.setattr(cost, "_seconds", lambda graph, samples: asked.append(samples) or 0.3 * samples)
    assert cost.forward_seconds(spiking()) == pytest.approx(0.3)
    assert asked == [1]
    monkeypatch.setattr(cost, "_seconds", lambda graph, samples: asked.append(samples) or 0.001 * samples)
    assert cost.forward_seconds(spiking()) == pytest.approx(0.001)
    assert asked == [1, 1, 16]
