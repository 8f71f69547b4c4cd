"""A sample of scripts/prove_layerwise: at D = T neurons fire as often as the quantized network says."""

from dataclasses import replace
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest
import torch

from ann2snn_cli import catalog, data, pipeline
from ann2snn_cli.ir.graph import Graph
from ann2snn_cli.ir.ops import IntegrateFire

SCRIPT = Path(__file__).parents[1] / "scripts" / "prove_layerwise"


@pytest.fixture(scope="module")
def script():
    """The script as a module: its name has no .py."""
    loader = SourceFileLoader("prove_layerwise", str(SCRIPT))
    module = module_from_spec(spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def digits():
    """Twenty-four training and eight test images of the digits."""
    whole = data.load("digits")
    parts = [
        replace(split, x=split.x[:n], labels=split.labels[:n])
        for split, n in ((whole.train, 24), (whole.test, 8))
    ]
    return replace(whole, train=parts[0], test=parts[1])


def converted(script, digits, name, bits, steps, channel_wise, epochs):
    """The network with random weights, converted."""
    torch.manual_seed(0)
    network = catalog.network(name).build(digits.input_shape, digits.classes)
    return pipeline.convert(
        network, digits, script.settings_of(name, bits, steps, channel_wise, epochs)
    ).graph


@pytest.mark.parametrize(
    ("name", "bits", "steps", "channel_wise", "epochs"),
    [
        ("mnist_cnn", 2, 16, False, 0),
        ("mnist_cnn", 8, 4, True, 1),
        ("resnet20", 4, 4, False, 1),
        ("unet_small", 4, 16, True, 0),
        ("unet_small", 2, 4, False, 1),
        ("mobilenet_small", 8, 16, False, 1),
        ("mobilenet_small", 2, 4, True, 0),
    ],
)
def test_no_spike_count_differs(script, digits, name, bits, steps, channel_wise, epochs):
    """Stepped with D = T, every neuron of every population fires N = clip(⌊V/θ⌋, 0, T) times."""
    graph = converted(script, digits, name, bits, steps, channel_wise, epochs)

    differing, samples, scores = script.compare(graph, digits, [steps])

    assert samples == 8
    assert differing == 0
    assert scores["quantized"] == scores[f"D={steps}"]


def test_no_spike_count_differs_with_one_step_less_of_delay(script, digits):
    """The first comparison of D = T − 1 follows the last of the input; of D = T − 2 it does not."""
    graph = converted(script, digits, "mnist_cnn", 8, 4, False, 0)

    assert script.delays_of(4) == [0, 1, 2, 3, 4]
    differing, _, scores = script.compare(graph, digits, script.delays_of(4))

    assert differing == 0
    assert list(scores) == ["quantized", "D=0", "D=1", "D=2", "D=3", "D=4"]
    assert scores["quantized"] == scores["D=3"] == scores["D=4"]


def test_a_threshold_that_is_off_by_one_is_counted(script, digits, monkeypatch):
    """The comparison sees a fault: one engine with other thresholds than the other."""
    graph = converted(script, digits, "mnist_cnn", 4, 4, False, 0)
    name = graph.of(IntegrateFire)[0].name
    op = graph[name].op
    wrong = graph.with_ops({name: replace(op, threshold=op.threshold - 1)})
    simulate = script.simulate
    monkeypatch.setattr(script, "simulate", lambda given, x, **options: simulate(wrong, x, **options))

    differing, _, _ = script.compare(graph, digits, [4])

    assert isinstance(graph, Graph)
    assert differing > 0
