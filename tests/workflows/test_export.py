"""Exporters: a format is one entry; what no chosen format knows is refused."""

from dataclasses import replace

import pytest

from ann2snn_cli.errors import UsageError
from ann2snn_cli.workflows import export as module
from ann2snn_cli.workflows.export import EXPORTERS, Exported, Exporter, ExportRequest, export, register
from ann2snn_cli.workflows.report import FileEntry


def listing(request, snn, progress):
    """The names of the nodes, one a line: a format of a test's own."""
    path = request.save_dir / f"{request.snn.stem}.txt"
    path.write_text("\n".join(node.name for node in snn.graph))
    return Exported((FileEntry(str(path), path.stat().st_size, "its nodes"),))


@pytest.fixture
def snn(tmp_path):
    """A small SNN on disk."""
    import torch
    from torch import nn

    import ann2snn_cli

    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).eval()
    return ann2snn_cli.convert(network, torch.rand(8, 4), timesteps=2).save(tmp_path / "a_snn.pth")


def test_a_new_exporter_is_one_function_and_one_line(snn, tmp_path, monkeypatch):
    """Registered, it is written like the others, and listed among them."""
    monkeypatch.setattr(module, "EXPORTERS", dict(EXPORTERS))
    module.register(Exporter("listing", "the names of its nodes", listing))

    report = export(ExportRequest(snn, ("listing",), save_dir=tmp_path))

    assert (tmp_path / "a_snn.txt").read_text().split()[0] == "input"
    assert report.to_json()["files"][0]["what"] == "its nodes"


def test_a_name_that_is_taken_is_refused():
    """Two formats of one name: one of them would never be written."""
    with pytest.raises(UsageError, match="already"):
        register(Exporter("onnx", "another", listing))


@pytest.mark.parametrize(
    ("formats", "option", "value"),
    [(("onnx",), "flavor", "composite"), (("onnx",), "steps", 3), (("nir",), "corners", False)],
)
def test_an_option_that_does_nothing_is_refused(snn, tmp_path, formats, option, value):
    """Who asks for a flavor of NIR and writes ONNX only made a mistake; nothing is written."""
    request = replace(ExportRequest(snn, formats, save_dir=tmp_path), **{option: value})

    with pytest.raises(UsageError, match=rf"{option}.* does nothing"):
        export(request)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["a_snn.pth"]
