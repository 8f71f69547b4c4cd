"""The examples of docs/rules.md run, and do what the page says of them (B3)."""

import importlib
import re
import shlex
import sys
from pathlib import Path

import pytest
import torch
from few_digits import few_digits
from torch import nn
from torch.nn import functional as F

import ann2snn_cli
from ann2snn_cli.__main__ import main
from ann2snn_cli.ir.ops import OPS, IntegrateFire, Opaque
from ann2snn_cli.ir.run import run
from ann2snn_cli.stages.trace import trace

PAGE = (Path(__file__).parents[1] / "docs" / "rules.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
FILES = {block.split()[1]: block for block in BLOCKS if block.startswith("# ")}
COMMANDS = [line.strip() for line in PAGE.splitlines() if line.startswith("    ann2snn ")]
LOSSLESS = {"weight_bitwidth": 8, "timesteps": 512, "schedule": "layerwise", "mode": "max"}


pytestmark = pytest.mark.filterwarnings("ignore::ann2snn_cli.DamageWarning")  # of networks at random


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A folder with the files of the page, from which they can be imported; their ops are forgotten after."""
    for name, content in FILES.items():
        (tmp_path / name).write_text(content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    known = dict(OPS)
    yield tmp_path
    OPS.clear()
    OPS.update(known)
    for name in FILES:
        sys.modules.pop(Path(name).stem, None)


def between(activation):
    """A network with an activation between two linear layers, and samples."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), activation, nn.Linear(16, 3)).eval(), torch.randn(64, 6)


def convolutional():
    """Two convolutions, and samples for them."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(54, 3),
    )  # fmt: skip
    return network.eval(), torch.rand(64, 1, 6, 6)


def error(snn, network, x):
    """The largest error against torch, in parts of the largest output."""
    with torch.no_grad():
        wanted = network(x)
    return float((snn(x) - wanted).abs().max() / wanted.abs().max())


def test_every_block_is_a_file_or_is_run_here():
    """Nothing on the page is left out."""
    assert len(FILES) == 6
    assert len(BLOCKS) == 7
    assert len(COMMANDS) == 3


def test_leaky_relu_is_a_pair_of_populations(files):
    """In floats it is torch's leaky_relu; at 8 bits, D = T = 512 the SNN is within 2 % of torch."""
    rules = importlib.import_module("leaky").RULES
    x = torch.linspace(-3, 3, 101).reshape(-1, 1)
    (found,) = run(trace(nn.LeakyReLU(0.3), [(1,)], rules=rules), x)
    torch.testing.assert_close(found, F.leaky_relu(x, 0.3), rtol=1e-6, atol=1e-6)

    network, x = between(nn.LeakyReLU(0.3))
    snn = ann2snn_cli.convert(network, x, rules=rules, **LOSSLESS)

    assert len(snn.graph.of(IntegrateFire)) == 2
    assert error(snn, network, x) < 0.02


def test_silu_is_near_its_straight_pieces(files):
    """Within 0.1 of torch's silu from -8 to 6; nothing of the SNN is opaque, as it is without the rule."""
    rules = importlib.import_module("silu").RULES
    x = torch.linspace(-8, 6, 281).reshape(-1, 1)
    (found,) = run(trace(nn.SiLU(), [(1,)], rules=rules), x)
    assert float((found - F.silu(x)).abs().max()) < 0.1

    network, x = between(nn.SiLU())
    with_rules = ann2snn_cli.convert(network, x, rules=rules, **LOSSLESS)

    assert not with_rules.graph.of(Opaque)
    assert trace(network, [(6,)]).of(Opaque)
    assert error(with_rules, network, x) < 0.1


def test_an_op_of_ones_own_is_used_saved_and_loaded(files):
    """-x, as torch says; the file that is loaded answers alike."""

    class Turned(nn.Module):
        def forward(self, x):
            return -F.relu(x)

    rules = importlib.import_module("negate").RULES
    network, x = between(Turned())
    snn = ann2snn_cli.convert(network, x, rules=rules, **LOSSLESS)

    assert error(snn, network, x) < 0.02
    assert "Negate" in repr(snn)
    assert torch.equal(ann2snn_cli.load(snn.save("turned.pth"))(x), snn(x))


def test_clips_are_what_the_rules_give(files):
    """The percentile in the layer that is named, 1.1 of the largest elsewhere; one for each channel."""
    network, x = convolutional()
    with torch.no_grad():
        first = network[:2](x)
    settings = {"weight_bitwidth": 8, "timesteps": 16, "bias_correction": False}

    by_layer = ann2snn_cli.convert(network, x, rules="clips.py", **settings)
    by_channel = ann2snn_cli.convert(network, x, rules="by_channel.py", **settings)

    (unit,) = (by_layer.graph[name].unit for name in ["1"])
    assert float(unit) == pytest.approx(1.1 * float(first.max()), rel=0.01)
    largest = first.amax((0, 2, 3))
    seen = largest > 0
    unit = by_channel.graph["1"].unit.flatten()
    torch.testing.assert_close(unit[seen].float(), largest[seen], rtol=0.01, atol=0)


def test_burst_neurons_lose_less_at_the_same_t(files):
    """The Python of the page runs; its SNN is at least twice as near to torch as one without bursts."""
    network, x = convolutional()
    names = {"ann2snn_cli": ann2snn_cli, "network": network, "x": x}
    (block,) = (block for block in BLOCKS if not block.startswith("# "))
    exec(compile(block, "rules.md", "exec"), names)
    plain = ann2snn_cli.convert(network, x, weight_bitwidth=8, timesteps=4, mode="max")

    assert error(names["snn"], network, x) < error(plain, network, x) / 2


@pytest.mark.parametrize("first", [0, 2])
def test_the_commands_of_the_page_run(first, files, capfd):
    """A rules FILE with neurons: converted, and simulated from its .pth by the engine that knows them."""
    with few_digits():
        for command in COMMANDS[first : first + 2]:
            assert main(shlex.split(command)[1:]) == 0, capfd.readouterr().err
