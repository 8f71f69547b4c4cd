"""A `.pth` from anywhere: loading it, and running what was loaded, does nothing but compute."""

from contextlib import suppress
from pathlib import Path

import pytest
import torch

from ann2snn_cli.errors import BadFile
from ann2snn_cli.ir.contract import Contract
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.ops import Input, Opaque, Ref
from ann2snn_cli.stages.export import pth
from ann2snn_cli.stages.simulate import simulate


def doctored(folder: Path, **fields: object) -> Path:
    """The file of an honest network, input -> gelu, with the fields of its opaque op replaced."""
    unit = torch.tensor(1.0)
    gelu = Node("gelu", Opaque("aten.gelu.default", (Ref(0),)), ("x",), (2,), "act", unit)
    graph = Graph((Node("x", Input(1.0), (), (2,), "", unit), gelu), ("gelu",), Level.SPIKING, Contract(4))
    content = pth.to_plain(graph, {})
    content["nodes"][1]["fields"].update(fields)
    torch.save(content, folder / "snn.pth")
    return folder / "snn.pth"


def test_the_honest_file_runs(tmp_path):
    """The fixture itself is good: what is refused below is refused for what was changed."""
    graph, _ = pth.load(doctored(tmp_path))
    torch.testing.assert_close(
        simulate(graph, torch.tensor([[1.0, 2.0]])).outputs[0],
        torch.nn.functional.gelu(torch.tensor([[1.0, 2.0]])),
        check_dtype=False,
    )


def test_a_file_that_names_an_operator_that_writes_a_file_is_refused_and_writes_none(tmp_path):
    """`aten.from_file` creates the file it is asked for: neither loading nor running may get that far."""
    victim = tmp_path / "victim"
    path = doctored(tmp_path, target="aten.from_file.default", args=[str(victim), True, 64], kwargs=[])

    with suppress(Exception):  # a loader that takes it must not be able to run it either
        simulate(pth.load(path)[0], torch.ones(1, 2))

    assert not victim.exists()
    with pytest.raises(BadFile, match=r"aten\.from_file\.default") as caught:
        pth.load(path)
    assert str(path) in caught.value.where
    assert "convert the network again" in caught.value.remedy


@pytest.mark.parametrize(
    "fields",
    [
        {"target": "aten.rand_like.default"},
        {"target": "aten.relu_.default"},
        {"target": "aten.__class__.x"},
        {"target": "torchvision.nms.default"},
        {"target": "aten.zeros.default", "args": [[2]], "kwargs": [["device", "cuda:7"]]},
        {"target": 3},
        {"target": ["aten.gelu.default"]},
        {"target": "aten.add.Tensor", "args": [{"ref": 0}, torch.eye(2).to_sparse()]},
        {"target": "aten.add.Tensor", "args": [{"ref": 0}, torch.ones(2, device="meta")]},
        {"kwargs": [["__class__", 1]]},
        {"kwargs": 7},
    ],
    ids=lambda fields: str(next(iter(fields.values())))[:40],
)
def test_other_tricks_are_refused_when_the_file_is_read(fields, tmp_path):
    """One BadFile that names the file; nothing is run."""
    path = doctored(tmp_path, **fields)
    with pytest.raises(BadFile) as caught:
        pth.load(path)
    assert str(path) in caught.value.where
