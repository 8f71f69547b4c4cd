"""`inspect`: the graph of a network, or of a converted one, as a table and as JSON."""

import pytest

NODE = {"node", "op", "reads", "shape", "details", "module"}


def test_a_network_is_shown_folded(here, ann2snn):
    """No weights, no data: nodes by the user's own names, with shapes."""
    document = ann2snn("inspect", "example_net", "--json").document
    assert set(document) == {"schema", "level", "parameters", "neurons", "real_operators", "nodes"}
    assert (document["schema"], document["level"]) == ("ann2snn/inspect/1", "FOLDED")
    assert all(set(node) == NODE for node in document["nodes"])
    rows = {node["node"]: node for node in document["nodes"]}
    assert rows["conv2"] | {"reads": ""} == {
        "node": "conv2", "op": "Conv", "reads": "", "shape": "16x14x14",
        "details": "3x3, padding 1x1", "module": "conv2",
    }  # fmt: skip
    weights = 1 * 8 * 9 + 8 * 16 * 9 + 16 * 28 * 9 + 28 * 9 * 10
    assert document["parameters"] == weights
    text = ann2snn("inspect", "example_net").out
    assert f"example_net: level FOLDED, {weights} weights" in text


def test_an_snn_is_shown_with_its_contract_and_integers(example, in_folder, ann2snn):
    """Thresholds, bits, and where it came from."""
    with in_folder(example[0]):
        document = ann2snn("inspect", "example_net_snn.pth", "--json").document
        text = ann2snn("inspect", "example_net_snn.pth").out
    assert document["level"] == "SPIKING"
    assert document["contract"] == {
        "timesteps": 16, "reset_mode": "subtraction", "delay": 0, "rounding": "potential",
    }  # fmt: skip
    assert document["provenance"]["network"] == "example_net"
    relu1 = next(node for node in document["nodes"] if node["node"] == "relu1")
    assert relu1["op"] == "IntegrateFire"
    assert "threshold" in relu1["details"]
    assert "3x3, padding 1x1, 4 bits" in text


REGISTER = {
    "layer", "source", "lowest", "highest", "bits", "weight_bits", "threshold_bits", "bias_bits",
}  # fmt: skip


def test_an_snn_is_shown_with_its_registers(example, in_folder, ann2snn):
    """For every population and the read-out: the worst case of the potential, and the bits that hold it."""
    with in_folder(example[0]):
        document = ann2snn("inspect", "example_net_snn.pth", "--json").document
        text = ann2snn("inspect", "example_net_snn.pth").out
    neurons = [node for node in document["nodes"] if node["op"] in ("IntegrateFire", "Integrate")]
    assert [register["layer"] for register in document["registers"]] == [node["node"] for node in neurons]
    assert len(neurons) == 7
    for node, register in zip(neurons, document["registers"], strict=True):
        assert set(register) == REGISTER
        assert register["source"] == node["module"]
        lowest, highest, bits = register["lowest"], register["highest"], register["bits"]
        assert -(2 ** (bits - 1)) <= lowest <= 0 <= highest < 2 ** (bits - 1)
        (line,) = [line for line in text.splitlines() if line.startswith(node["node"] + " ")]
        assert line.endswith(f"{lowest}..{highest} ({bits} bits)")
    pool = next(register for register in document["registers"] if register["layer"] == "pool1.neurons")
    assert (pool["lowest"], pool["highest"], pool["bits"]) == (0, 3 + 4, 4)  # below θ = 4, and four spikes


@pytest.mark.parametrize("name", ["resnet20", "unet_small", "mobilenet_small", "debug_net2"])
def test_every_kind_of_network_is_shown(name, here, ann2snn):
    """Residual, transposed with concat, depthwise, tiny: text and JSON list the same nodes."""
    nodes = ann2snn("inspect", name, "--json").document["nodes"]
    text = ann2snn("inspect", name).out
    assert len(nodes) > 5
    assert all(node["node"] in text for node in nodes)
