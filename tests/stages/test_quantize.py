"""Quantize: every synapse gets its bit width and step; the float weights stay as the master copy."""

from dataclasses import replace

import pytest
import torch

from ann2snn_cli.errors import BadWeights
from ann2snn_cli.ir.contract import Contract
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.ops import Conv, Input, IntegrateFire, Linear, Relu, Reshape, Scale
from ann2snn_cli.ir.validate import validate
from ann2snn_cli.stages.quantize.weights import quantize
from ann2snn_cli.stages.threshold import threshold

GENERATOR = torch.Generator().manual_seed(8)


def normal(*shape):
    """Normal numbers, like trained weights."""
    return torch.randn(*shape, generator=GENERATOR)


def calibrated():
    """conv -> relu -> scale -> relu -> linear, CALIBRATED."""
    clip = torch.tensor(2.5, dtype=torch.float64)
    nodes = (
        Node("x", Input(unit=1 / 255), (), (2, 4, 4)),
        Node("conv", Conv(normal(3, 2, 3, 3)), ("x",), (3, 2, 2), "features.0"),
        Node("a", Relu(clip=clip, bias=normal(3, 1, 1)), ("conv",), (3, 2, 2)),
        Node("scale", Scale(normal(3, 1, 1)), ("a",), (3, 2, 2)),
        Node("b", Relu(clip=clip), ("scale",), (3, 2, 2)),
        Node("flat", Reshape(), ("b",), (12,)),
        Node("fc", Linear(normal(5, 12)), ("flat",), (5,)),
        Node("c", Relu(clip=clip), ("fc",), (5,)),
    )
    return Graph(nodes, ("c",), Level.CALIBRATED)


@pytest.mark.parametrize("channel_wise", [False, True])
@pytest.mark.parametrize("bits", range(1, 9))
def test_every_weight_lies_on_its_grid(bits, channel_wise):
    """A5: Integers of b bits, symmetric, at one bit without zero; the unit of a code is its step."""
    before = calibrated()

    graph = validate(
        threshold(validate(quantize(before, Contract(8), weight_bitwidth=bits, channel_wise=channel_wise)))
    )

    top = 1 if bits == 1 else 2 ** (bits - 1) - 1
    synapses = graph.of(Conv, Scale, Linear)
    assert len(synapses) == 3
    for node in synapses:
        codes = node.op.weight
        if node.op.multiplier is None:
            assert codes.dtype == torch.int8
        else:
            assert node.name == "scale", "no other layer here reads branches, or has a weight a channel"
            codes = codes // node.op.multiplier
        assert int(codes.abs().max()) <= top
        if bits == 1:
            assert int(codes.abs().min()) == 1


@pytest.mark.parametrize(("bits", "closeness"), [(1, 0.7), (2, 0.8), (4, 0.98), (8, 0.9999)])
def test_codes_stand_for_the_weights(bits, closeness):
    """step·q is W·A_in, at 8 bits to half a step, with fewer bits less closely."""
    before = calibrated()
    graph = threshold(quantize(before, Contract(8), weight_bitwidth=bits))
    wanted = before["fc"].op.weight.double() * float(graph["b"].known_unit)
    meant = graph["fc"].op.weight * graph["fc"].known_unit

    assert float(torch.corrcoef(torch.stack([meant.flatten(), wanted.flatten()]))[0, 1]) > closeness
    if bits == 8:
        assert float((meant - wanted).abs().max()) <= float(graph["fc"].known_unit) / 2 * (1 + 1e-9)


def test_the_master_copy_stays():
    """quantize adds bits and step and leaves the weights alone, and the graph it was handed too."""
    before = calibrated()

    after = quantize(before, Contract(8), weight_bitwidth=3)

    assert after.level is Level.QUANTIZED
    assert after.timing.timesteps == 8
    for name in ("conv", "scale", "fc"):
        assert after[name].op.weight is before[name].op.weight
        assert after[name].op.bits == 3
        assert before[name].op.bits is None


def test_steps_by_tensor_and_by_channel():
    """One step a tensor, or one an output channel."""
    one = quantize(calibrated(), Contract(8))
    many = quantize(calibrated(), Contract(8), channel_wise=True)

    assert [one[name].op.step.shape for name in ("conv", "scale", "fc")] == [()] * 3
    assert [many[name].op.step.shape for name in ("conv", "scale", "fc")] == [(3,), (3,), (5,)]


def test_a_later_layer_absorbs_the_snapped_amplitude():
    """The step of a layer is chosen for W·A with the A that the thresholds before it really have."""
    before = calibrated()

    graph = quantize(before, Contract(8), weight_bitwidth=8)

    amplitude = float(threshold(graph)["b"].known_unit)
    wanted = float(before["fc"].op.weight.double().abs().max()) * amplitude / 127
    assert float(graph["fc"].op.step) == pytest.approx(wanted, rel=1e-12)


def test_32_bits_quantize_nothing():
    """The same network in floats: no step, and thresholds that are not rounded."""
    graph = quantize(calibrated(), Contract(8), weight_bitwidth=32)
    spiking = validate(threshold(validate(graph)))

    assert graph["conv"].op.step is None
    assert spiking["conv"].op.weight.is_floating_point()
    assert isinstance(spiking["a"].op, IntegrateFire)
    assert float(spiking["a"].op.threshold) == 2.5


def test_weights_are_normalised_by_the_clips_around_them():
    """C1: with a threshold of one, a layer between clips p and c has the weights W·p/c and the bias b/c."""
    before = calibrated()
    spiking = threshold(quantize(before, Contract(8), weight_bitwidth=32))

    c = before["a"].op.clip
    weight = spiking["conv"].op.weight / spiking["a"].op.threshold
    assert torch.allclose(weight, before["conv"].op.weight.double() * (1 / 255) / c)
    assert torch.allclose(spiking["a"].op.bias / spiking["a"].op.threshold, before["a"].op.bias.double() / c)
    p, c = before["b"].op.clip, before["c"].op.clip / 2
    before = before.with_ops({"c": replace(before["c"].op, clip=c)})
    spiking = threshold(quantize(before, Contract(8), weight_bitwidth=32))
    weight = spiking["fc"].op.weight / spiking["c"].op.threshold
    assert torch.allclose(weight, before["fc"].op.weight.double() * p / c)


@pytest.mark.parametrize("bits", [4, 32])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(bad, bits):
    """All layers concerned are named at once, as the user calls them."""
    graph = calibrated()
    graph["conv"].op.weight[0, 0, 0, 0] = bad
    graph["fc"].op.weight[1, 1] = bad

    with pytest.raises(BadWeights, match="finite") as caught:
        quantize(graph, Contract(8), weight_bitwidth=bits)

    assert caught.value.where == "features.0, fc"


def test_thresholds_are_stored_as_integers():
    """What a chip is loaded with: int8 weights, int64 thresholds, biases and potentials."""
    graph = threshold(quantize(calibrated(), Contract(8)))

    for node in graph.of(IntegrateFire):
        for values in (node.op.threshold, node.op.bias, node.op.initial):
            assert values.dtype == torch.int64
        assert bool((node.op.threshold >= 1).all())
