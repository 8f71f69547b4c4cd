"""An op more is one class and one line: it goes through every stage, and no other file knows of it."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from ann2snn_cli.config import Hardware
from ann2snn_cli.errors import BadFile, InvalidGraph, UnsupportedNetwork
from ann2snn_cli.ir import show
from ann2snn_cli.ir.bounds import bounds
from ann2snn_cli.ir.contract import Contract
from ann2snn_cli.ir.ops import OPS, Integrate, register
from ann2snn_cli.ir.ops.base import LinearOp
from ann2snn_cli.ir.registers import registers
from ann2snn_cli.ir.run import run, run_counts
from ann2snn_cli.stages.calibrate import calibrate
from ann2snn_cli.stages.check import check
from ann2snn_cli.stages.export import nir, pth
from ann2snn_cli.stages.export.pack import describe
from ann2snn_cli.stages.fold import fold
from ann2snn_cli.stages.quantize.weights import quantize
from ann2snn_cli.stages.simulate import simulate
from ann2snn_cli.stages.threshold import threshold
from ann2snn_cli.stages.trace import trace


@dataclass(frozen=True, eq=False)
class Negate(LinearOp):
    """y = −x."""

    def details(self):
        return "the other way round"

    def linear(self, xs, shape):
        return -xs[0]

    def integers(self, units, place):
        return self, units[0]

    def span(self, spans, place):
        return -spans[0].flip(0)


@pytest.fixture
def known():
    """The op is registered, until the test is over."""
    register(Negate)
    yield
    del OPS["Negate"]


class Turn(nn.Module):
    """A module of a user's own."""

    def forward(self, x):
        return torch.neg(x)


class Inverted(nn.Module):
    """Two layers with a negation between them."""

    def __init__(self):
        super().__init__()
        self.first, self.turn, self.last = nn.Linear(6, 8), Turn(), nn.Linear(8, 3)

    def forward(self, x):
        return self.last(self.turn(torch.relu(self.first(x))))


RULES = {"aten.neg.default": lambda call: Negate()}
STEPS = 64


def converted():
    """(network, samples, the graph of every level)."""
    torch.manual_seed(2)
    network, x = Inverted().eval(), torch.rand(32, 6)
    floats = trace(network, [(6,)], rules=RULES)
    folded = fold(floats)
    quantized = quantize(
        calibrate(folded, [x], mode="max", timesteps=STEPS), Contract(STEPS), weight_bitwidth=8
    )
    return network, x, folded, threshold(quantized)


@pytest.mark.usefixtures("known")
def test_it_is_traced_converted_and_simulated():
    """It computes what torch computes; at D = T it is the quantized network; its bounds hold."""
    network, x, folded, spiking = converted()
    (node,) = spiking.of(Negate)
    with torch.no_grad():
        wanted = network(x)

    torch.testing.assert_close(run(folded, x)[0], wanted)
    outputs = simulate(spiking, x, delay=STEPS).outputs[0]
    assert torch.equal(outputs, run_counts(spiking, x.double())[0])
    assert float((outputs - wanted).norm() / wanted.norm()) < 0.05
    held = bounds(spiking)[node.name].passed_on
    assert (held.low, held.high) == (-1, 0)
    assert [register.layer for register in registers(spiking)][-1] == spiking.outputs[0]
    assert isinstance(spiking[spiking.outputs[0]].op, Integrate)


@pytest.mark.usefixtures("known")
def test_it_is_shown_saved_and_loaded(tmp_path):
    """With its own words; the network that is loaded answers alike."""
    _, x, _, spiking = converted()

    loaded, _ = pth.load(pth.save(spiking, {}, tmp_path / "snn.pth"))

    row = next(row for row in show.rows(loaded) if row[1] == "Negate")
    assert "the other way round" in row
    assert torch.equal(simulate(loaded, x).outputs[0], simulate(spiking, x).outputs[0])


def test_who_does_not_know_it_says_so(tmp_path):
    """A graph with it is not saved, and a file with it is not loaded: by the names of layer and op."""
    _, _, _, spiking = converted()
    with pytest.raises(UnsupportedNetwork, match="Negate") as refused:
        pth.save(spiking, {}, tmp_path / "snn.pth")
    assert refused.value.where.startswith("turn ")
    assert list(tmp_path.iterdir()) == []

    register(Negate)
    pth.save(spiking, {}, tmp_path / "snn.pth")
    del OPS["Negate"]
    with pytest.raises(BadFile, match="an op Negate, which is not known here"):
        pth.load(tmp_path / "snn.pth")


@pytest.mark.usefixtures("known")
def test_what_has_no_place_for_it_refuses_it_in_words(tmp_path):
    """A chip, a pack and NIR name the layer and the op."""
    _, _, folded, spiking = converted()

    (verdict,) = [each for each in check(folded, Hardware("any"), 8) if each.rule == "op"]
    assert verdict.layer.startswith("turn ")
    assert (verdict.actual, verdict.ok) == ("Negate", False)
    with pytest.raises(UnsupportedNetwork, match="no layer for Negate") as refused:
        describe(spiking)
    assert refused.value.where.startswith("turn ")
    pytest.importorskip("nir", reason="the nir extra is not installed")
    with pytest.raises(UnsupportedNetwork, match="there is no Negate") as refused:
        nir.write(spiking, tmp_path / "a.nir")
    assert refused.value.where.startswith("turn ")


@dataclass(frozen=True, eq=False)
class Halved(Negate):
    """It answers no question about integers."""

    def integers(self, units, place):
        return super(LinearOp, self).integers(units, place)


def test_what_it_does_not_answer_is_refused_by_its_name():
    """Where the answer is needed, not later."""
    torch.manual_seed(2)
    graph = calibrate(
        fold(trace(Inverted().eval(), [(6,)], rules={"aten.neg.default": lambda call: Halved()})),
        [torch.rand(8, 6)],
    )
    with pytest.raises(InvalidGraph, match="the op Halved is not defined at level SPIKING"):
        quantize(graph, Contract(4))
