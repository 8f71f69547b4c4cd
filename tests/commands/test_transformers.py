"""`--method td` on the command line: what is in real numbers is named, counted, and refused in packs."""

import numpy as np
import pytest

NORMED = """from torch import nn

DATASET = "npz:flat.npz"


def build(input_shape, classes):
    return nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, classes))
"""
WORDS = ("./normed.py", "--method", "td", "--ann_weight", "none")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A network of linear layers, a layer norm and GELU, and data for it."""
    random = np.random.default_rng(0)
    np.savez(tmp_path / "flat.npz", x=random.normal(size=(40, 6)).astype(np.float32), y=np.arange(40) % 3)
    (tmp_path / "normed.py").write_text(NORMED)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_report_counts_real_numbers_and_refuses_a_pack(folder, ann2snn):
    """By kind and layer; no neuron fires, and the note on the pack names each layer once."""
    done = ann2snn("convert", *WORDS, "-T", "4", "--json")

    document = done.document
    assert document["real_operators"] == {"Linear": ["0", "3"], "LayerNorm": ["1"], "GELU": ["2"]}
    assert document["firing_rate"] == {}
    assert document["largest_output_error"] < 1e-6
    assert any(note.endswith("hold integers (input, 0, 1, 2, 3)") for note in document["notes"])
    shown = ann2snn("inspect", "normed_snn.pth").out
    assert "temporal differences in real numbers, which are no spikes: 2 Linear, 1 LayerNorm, 1 GELU" in shown


def test_check_names_every_operator_that_no_chip_computes(folder, ann2snn):
    """None of them is taken for the read-out, which may stay outside."""
    done = ann2snn("check", "./normed.py", "--method", "td", "--hardware", "v1", "--json")

    found = [(each["layer"], each["actual"]) for each in done.document["hardware"]["violations"]]
    assert done.code == 3
    assert found == [("0", "opaque Linear"), ("1", "opaque LayerNorm"), ("2", "opaque GELU")]


def test_an_analysis_of_no_populations_is_written(folder, ann2snn):
    """Its table of layers has a head and no rows."""
    done = ann2snn("analyse-error", *WORDS, "-T", "2", "-e", "0")

    assert done.code == 0, done.err
    assert "2 Linear, 1 LayerNorm, 1 GELU" in done.out
    assert len((folder / "normed_analysis" / "layers.csv").read_text().splitlines()) == 1
