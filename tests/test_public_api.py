"""The Python API by name, and what its names promise."""

import subprocess
import sys

import pytest
import torch
from torch import nn

import ann2snn_cli
from ann2snn_cli.errors import HardwareViolations, UsageError


@pytest.fixture
def network():
    """Two layers of neurons and a read-out."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(36, 8),
        nn.ReLU(),
        nn.Linear(8, 3),
    )


@pytest.fixture
def x():
    """Samples."""
    return torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def test_the_public_names_are_these():
    """Nobody adds or removes a public name without changing this list."""
    assert ann2snn_cli.__all__ == ["SpikingNetwork", "convert", "load"]
    assert all(hasattr(ann2snn_cli, name) for name in ann2snn_cli.__all__)
    with pytest.raises(AttributeError):
        ann2snn_cli.nothing  # noqa: B018 - the access is what is tested


def test_importing_the_package_does_not_import_torch():
    """The command line's --help must not wait for torch."""
    code = "import sys, ann2snn_cli; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_many_bits_and_steps_come_near_the_float_network(network, x):
    """At 8 bits and 256 timesteps the SNN's outputs are the network's, to 2 % of the largest."""
    snn = ann2snn_cli.convert(network, x, weight_bitwidth=8, timesteps=256, mode="max", schedule="layerwise")

    wanted = network(x).detach()
    assert (snn(x) - wanted).abs().max() < 0.02 * wanted.abs().max()


def test_the_users_network_is_left_as_it_was(network, x):
    """Converting changes neither weights nor training mode."""
    network.train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    ann2snn_cli.convert(network, x, weight_bitwidth=2, timesteps=4)

    assert network.training
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_the_snn_is_a_module_that_prints_its_graph_and_keeps_integers(network, x):
    """print(snn) shows a line a node; `.double()` or `.half()` change no integer."""
    snn = ann2snn_cli.convert(
        network, (x, torch.zeros(20, dtype=torch.int64)), weight_bitwidth=3, timesteps=4
    )

    assert isinstance(snn, nn.Module)
    assert len(repr(snn).splitlines()) == 2 + len(snn.graph.nodes)
    wanted = snn(x)
    assert torch.equal(snn.half()(x), wanted)


def test_wrong_settings_and_broken_limits_are_named(network, x):
    """A setting that does not exist lists those that do; a chip's limits hold here as well."""
    with pytest.raises(UsageError, match="bits"):
        ann2snn_cli.convert(network, x, bits=4)
    with pytest.raises(HardwareViolations):
        ann2snn_cli.convert(network, x, weight_bitwidth=8, hardware="v1")
