"""Every op in the tables that stages keep: a rule, or a refusal that names layer and op; never a KeyError."""

from dataclasses import fields

import pytest
import torch
from every_op import EVERY_OP, around

from ann2snn_cli.config import Hardware
from ann2snn_cli.errors import UnsupportedNetwork
from ann2snn_cli.ir.ops import OPS
from ann2snn_cli.stages.check import check
from ann2snn_cli.stages.export import nir, pth
from ann2snn_cli.stages.export.pack import describe
from ann2snn_cli.twins import replay

BELOW = {"Relu", "BatchNorm"}  # which no SPIKING graph holds


@pytest.mark.parametrize("name", OPS)
def test_in_a_pth(name, tmp_path):
    """It is written and read back, field by field."""
    torch.save(pth.to_plain(around(name), {}), tmp_path / "a.pth")
    content = torch.load(tmp_path / "a.pth", weights_only=True)

    op = pth.from_plain(content)["this"].op

    wanted = EVERY_OP[name][0]
    assert type(op) is type(wanted)
    for field in fields(wanted):
        one, other = getattr(op, field.name), getattr(wanted, field.name)
        assert repr(one) == repr(other), field.name


KINDS = {  # in docs/vector-pack.md
    "Input": "input", "Conv": "conv", "Linear": "linear", "Scale": "scale", "Add": "add", "Concat": "concat",
    "AvgPool": "sum_pool", "MaxPool": "max_pool", "Reshape": "reshape", "Permute": "permute",
    "Gather": "gather", "Integrate": "integrate", "IntegrateFire": "integrate_fire",
}  # fmt: skip


@pytest.mark.parametrize("name", OPS)
def test_in_a_pack_and_in_the_numpy_twin(name):
    """A layer that the twin computes, or a refusal that names the layer."""
    graph = around("IntegrateFire" if name == "Input" else name)
    if name not in KINDS:
        with pytest.raises(UnsupportedNetwork) as refused:
            describe(graph)
        assert "net.this" in refused.value.where
        assert name == "Opaque" or EVERY_OP[name][0].kind in refused.value.what
        return
    network = describe(graph)
    layer = network.layers[0 if name == "Input" else 2]
    assert layer["kind"] == KINDS[name]
    shown = torch.full(graph["x"].shape, 200).numpy()
    assert replay.replay(network, {"x": shown})["this"].train.any()


@pytest.mark.parametrize("name", OPS)
def test_on_a_chip(name):
    """It is an input, neurons, or something that a chip without it refuses by the layer's name."""
    chip = Hardware("bare", ops=("transposed_conv",), final_linear_on_chip=True)
    found = [
        verdict for verdict in check(around(name), chip, 4) if (verdict.rule, verdict.ok) == ("op", False)
    ]

    everywhere = name in {"Input", "Relu", "Integrate", "IntegrateFire"}
    assert [verdict.layer for verdict in found] == ([] if everywhere else ["net.this"])
    assert all(verdict.actual for verdict in found)


NIR_LACKS = {*BELOW, "MaxPool", "Opaque", "Permute", "Gather", "Linear"}  # these two as they are here


@pytest.mark.parametrize("name", [name for name in OPS if name != "Input"])
def test_in_nir(name, tmp_path):
    """It is written, or refused by its layer's name."""
    pytest.importorskip("nir", reason="the nir extra is not installed")
    if name in NIR_LACKS:
        with pytest.raises(UnsupportedNetwork, match="NIR cannot say") as refused:
            nir.write(around(name), tmp_path / "a.nir")
        assert "net.this" in refused.value.where
    else:
        nir.write(around(name), tmp_path / "a.nir")
        assert (tmp_path / "a.nir").is_file()
