"""CONTRIBUTING's recipes by one file and one line: a network, a chip, a hardware rule, a dataset.

Those of an op, an engine, an activation, an exporter, a twin and a task have tests beside what they add to.
"""

import json
from pathlib import Path

import pytest
import torch

from ann2snn_cli import data
from ann2snn_cli.data.samples import from_tensors
from ann2snn_cli.errors import UsageError
from ann2snn_cli.ir.ops import Conv
from ann2snn_cli.stages import check
from ann2snn_cli.stages.check import Verdict

FREE = ("--ann_weight", "none", "-e", "0", "-T", "4", "--vectors", "0", "--hardware", "none", "--json")

NETWORK = '''"""A network of one file."""

from torch import nn

DATASET = "digits"


def build(input_shape, classes):
    channels, height, width = input_shape
    return nn.Sequential(
        nn.Conv2d(channels, 2, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(2 * height * width, classes)
    )
'''

CHIP = """description: "a chip of one file"
in_channels:
  3x3: {4: 8}
max_weight_bitwidth: 4
"""


def names(document, kind):
    """What `ls` lists, by name."""
    return {row["name"]: row for row in document[kind]}


# A network -----------------------------------------------------------------------------------------


def test_a_new_network_is_one_file(here, ann2snn):
    """In ./networks it is listed with its first line, and every command takes its file's name."""
    (here / "networks").mkdir()
    (here / "networks/of_one_file.py").write_text(NETWORK)
    row = names(ann2snn("ls", "networks", "--json").document, "networks")["of_one_file"]
    assert (row["origin"], row["description"]) == ("here", "A network of one file.")
    document = ann2snn("check", "of_one_file", "--hardware", "v1", "--json").document
    assert (document["network"], document["input_shape"]) == ("of_one_file", [1, 28, 28])


# A chip --------------------------------------------------------------------------------------------


def test_a_new_chip_is_one_file(here, ann2snn):
    """In ./configs/hardware it is listed, goes by its file's name, and its limits are held."""
    (here / "configs/hardware").mkdir(parents=True)
    (here / "configs/hardware/of_one_file.yaml").write_text(CHIP)
    row = names(ann2snn("ls", "hardware", "--json").document, "hardware")["of_one_file"]
    assert (row["origin"], row["description"]) == ("here", "a chip of one file")

    done = ann2snn("check", "example_net", "--hardware", "of_one_file", "--json")

    assert done.code == 3
    hardware = done.document["hardware"]
    assert hardware["name"] == "of_one_file"
    found = [(each["layer"], each["actual"], each["limit"]) for each in hardware["violations"]]
    assert found == [("conv3", 16, 8)]  # conv2 has 8 channels, as many as there may be


# A hardware rule -----------------------------------------------------------------------------------


def maps_fit(graph, node, hardware, bits):
    """Two maps of a convolution lie in a core."""
    if isinstance(node.op, Conv):
        yield Verdict("maps", node.source, node.shape[0], 8, node.shape[0] <= 8, "fewer output channels")


@pytest.fixture
def own_rules(monkeypatch):
    """Rules that are added are gone after the test."""
    monkeypatch.setattr(check, "SHAPE_RULES", dict(check.SHAPE_RULES))
    monkeypatch.setattr(check, "REGISTER_RULES", dict(check.REGISTER_RULES))


@pytest.mark.usefixtures("own_rules", "here")
def test_a_new_hardware_rule_is_one_function_and_one_line(ann2snn):
    """Its verdicts are in the table, its violations counted, and its name may be allowed to be broken."""
    check.register("maps", shapes=maps_fit)

    done = ann2snn("check", "example_net")
    assert done.code == 3
    assert "maps" in done.out.partition("conv1")[0]
    assert "16/8 !" in done.out
    document = ann2snn("check", "example_net", "--json").document
    found = {(each["rule"], each["layer"], each["actual"]) for each in document["hardware"]["violations"]}
    assert found == {("maps", "conv2", 16), ("maps", "conv3", 28)}
    assert ann2snn("check", "example_net", "--allow", "maps").code == 0


@pytest.mark.usefixtures("own_rules")
def test_a_name_of_a_hardware_rule_is_taken_once():
    """Whichever table it stands in."""
    for taken in ("in_channels", "threshold_bits"):
        with pytest.raises(UsageError, match=f"there is a hardware rule called '{taken}' already"):
            check.register(taken, shapes=maps_fit)


# A dataset -----------------------------------------------------------------------------------------


def load_stripes(name, root):
    """Images of two stripes, upright or lying: 20 to train on and 10 to test."""
    y = torch.arange(30) % 2
    lying = torch.zeros(1, 6, 6)
    lying[:, ::2] = 1.0
    x = torch.where(y.reshape(-1, 1, 1, 1) == 0, lying, lying.transpose(1, 2))
    return from_tensors(name, (x[:20], y[:20]), (x[20:], y[20:]))


@pytest.fixture
def own_datasets(monkeypatch):
    """Datasets that are added are gone after the test."""
    monkeypatch.setattr(data, "DATASETS", dict(data.DATASETS))


@pytest.mark.usefixtures("own_datasets")
def test_a_new_dataset_is_one_loader_and_one_line(here, ann2snn):
    """It is listed, a network is checked without loading it, and converted and tested on it."""
    data.register(data.Dataset("stripes", "upright or lying", (1, 6, 6), 2, load_stripes))

    assert names(ann2snn("ls", "datasets", "--json").document, "datasets")["stripes"] == {
        "name": "stripes",
        "description": "upright or lying",
    }
    assert data.shapes_of("stripes") == (((1, 6, 6),), 2)
    (here / "net.py").write_text(NETWORK)
    done = ann2snn("convert", "./net.py", "--dataset", "stripes", *FREE)
    assert done.code == 0, done.err
    assert (done.document["dataset"], done.document["test_samples"]) == ("stripes", 10)
    assert ann2snn("simulate", "net_snn.pth", "--json").document["test_samples"] == 10
    assert json.loads(Path("net_snn.json").read_text())["dataset"] == "stripes"


@pytest.mark.usefixtures("own_datasets")
def test_a_name_of_a_dataset_is_taken_once():
    """A second one would be loaded for the first."""
    with pytest.raises(UsageError, match="there is a dataset 'digits' already"):
        data.register(data.Dataset("digits", "others", (1, 6, 6), 2, load_stripes))
