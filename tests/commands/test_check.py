"""`check`: every limit that a network breaks, with remedies, from shapes alone; exit code 3 for any."""

import pytest

from ann2snn_cli.commands.verdicts import verdict_table
from ann2snn_cli.stages.check import Verdict
from ann2snn_cli.workflows.hardware import HardwareReport

WRONG = '''"""Breaks three rules in two layers."""

from torch import nn


def build(input_shape, classes):
    return nn.Sequential(
        nn.Conv2d(input_shape[0], 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(64, 8, 3), nn.ReLU(),
        nn.Flatten(), nn.Linear(8 * (input_shape[1] // 2 - 3) ** 2, classes),
    )
'''


@pytest.fixture
def wrong(here):
    """A network file that hardware v1 cannot take at 5 bits."""
    (here / "wrong.py").write_text(WRONG)
    return ("check", "./wrong.py", "--dataset", "digits", "--hardware", "v1", "--weight_bitwidth", "5")


def test_the_document_has_the_promised_fields(here, ann2snn):
    """The example fits; every verdict says so, with its headroom."""
    done = ann2snn("check", "example_net", "--json")
    assert done.code == 0
    document = done.document
    assert set(document) == {"schema", "network", "input_shape", "weight_bitwidth", "hardware"}
    assert document["schema"] == "ann2snn/check/1"
    assert document["input_shape"] == [1, 28, 28]
    hardware = document["hardware"]
    assert set(hardware) == {"name", "ok", "synapse_lines", "violations", "allowed", "verdicts", "notes"}
    assert (hardware["name"], hardware["ok"], hardware["violations"]) == ("v1", True, [])
    conv3 = next(v for v in hardware["verdicts"] if v["layer"] == "conv3" and v["rule"] == "in_channels")
    assert (conv3["actual"], conv3["limit"], conv3["ok"], conv3["derived"]) == (16, 28, True, False)
    assert conv3["headroom"] == pytest.approx(1 - 16 / 28)


def test_all_violations_are_listed_at_once_with_layer_actual_limit_and_remedy(wrong, ann2snn):
    """Three rules in two layers, in text and as JSON."""
    done, document = ann2snn(*wrong), ann2snn(*wrong, "--json").document
    assert done.code == 3
    found = {(v["layer"], v["rule"], v["actual"], v["limit"]) for v in document["hardware"]["violations"]}
    assert {
        ("0", "weight_bitwidth", 5, 4),
        ("3", "weight_bitwidth", 5, 4),
        ("3", "in_channels", 64, 22),
    } < found
    assert ("2", "op", "max_pool") in {(layer, rule, actual) for layer, rule, actual, _ in found}
    assert len(found) == 4
    assert "4 violations" in done.out
    for violation in document["hardware"]["violations"]:
        assert violation["remedy"]
        assert violation["remedy"] in done.out
    assert "Traceback" not in done.err


def test_allowed_rules_do_not_count(wrong, ann2snn):
    """Exit code 0 when all that is broken is allowed; the table still shows it."""
    words = [word for rule in ("op", "in_channels", "weight_bitwidth") for word in ("--allow", rule)]
    assert ann2snn(*wrong, *words[:4]).code == 3
    done = ann2snn(*wrong, *words)
    assert done.code == 0
    assert "64/22* !" in done.out
    assert (
        "on hardware v1: fits except for weight_bitwidth (0, 3), op (2), in_channels (3), which" in done.out
    )
    hardware = ann2snn(*wrong, *words, "--json").document["hardware"]
    assert (hardware["ok"], hardware["violations"], len(hardware["allowed"])) == (True, [], 4)


@pytest.mark.parametrize("order", [1, -1])
def test_a_module_that_is_called_twice_shows_its_worst_call(order):
    """One line a module: a call that fits does not hide one that does not, nor a wide one a tight one."""
    fits, tight, broken = (
        Verdict("in_channels", "conv", actual, 28, ok=actual <= 28) for actual in (3, 28, 29)
    )
    assert "conv   ok       28/28" in verdict_table(HardwareReport("x", (fits, tight)[::order]))
    assert "conv   VIOLATION  29/28 !" in verdict_table(HardwareReport("x", (fits, broken)[::order]))


def test_the_note_under_the_table_has_the_chips_own_formula(here, ann2snn):
    """A chip with 2048 lines derives its limits from 2048, and says so."""
    assert ann2snn("cp", "v1", ".").code == 0
    text = (here / "v1.yaml").read_text().replace("synapse_lines: 1024", "synapse_lines: 2048")
    (here / "v1.yaml").write_text(text)
    done = ann2snn("check", "example_net", "--hardware", "./v1.yaml")
    assert "not in the published table, 2048 // (kernel * kernel * bits)" in done.out
    assert "1024 //" in ann2snn("check", "example_net").out


def test_what_settings_ask_of_registers_is_judged(tiny, ann2snn):
    """`--channel_wise` on a chip of one threshold a layer: `check` refuses what `convert` refuses."""
    words = ("./tiny.py", "--hardware", "v1", "--channel_wise")
    done = ann2snn("check", *words)
    assert (done.code, "1 violation" in done.out) == (3, True)
    assert "convert with --no_channel_wise" in done.out
    assert ann2snn("convert", *words).code == 3
    words = (*words, "--allow", "channel_wise_threshold")
    done = ann2snn("check", *words)
    assert (done.code, "fits except for channel_wise_threshold (1), which" in done.out) == (0, True)
    done = ann2snn("convert", *words, "-e", "0", "-T", "2", "--vectors", "0")
    assert (done.code, "fits except for channel_wise_threshold (1), which" in done.out) == (0, True)


def test_a_rule_that_does_not_exist_cannot_be_allowed(here, ann2snn):
    """The rules that exist are listed, the nearest first."""
    done = ann2snn("check", "example_net", "--allow", "in_chanels")
    assert done.code == 2
    assert "unknown hardware rule 'in_chanels'" in done.err
    assert "where: --allow" in done.err
    assert "did you mean in_channels? choose from: bias_bits, " in done.err


def test_a_rule_that_is_allowed_and_not_broken_is_noted(tiny, ann2snn):
    """Who allows a rule believes that it is broken: `check` and `convert` say that it is not."""
    words = ("--hardware", "v1", "--allow", "in_channels", "--allow", "threshold_bits")
    done = ann2snn("check", "./tiny.py", *words)
    assert done.code == 0
    assert "note: --allow in_channels does nothing: no layer breaks that limit" in done.out
    assert "note: --allow threshold_bits does nothing: that limit was not checked here" in done.out
    convert = ("convert", "./tiny.py", "-e", "0", "-T", "2", "--vectors", "0")
    assert "note: --allow threshold_bits does nothing: no layer breaks" in ann2snn(*convert, *words).out
    done = ann2snn(*convert, "--allow", "op")
    assert done.code == 2
    assert "--allow op does nothing: no hardware is named" in done.err


def test_no_weights_and_no_data_are_needed(here, ann2snn):
    """CIFAR's shapes are known by name, and vgg16 has no checkpoint."""
    done = ann2snn("check", "vgg16", "--dataset", "cifar10", "--data_dir", "nowhere", "--json")
    assert done.code == 3
    assert done.document["hardware"]["violations"]
    assert list(here.iterdir()) == []


def test_without_hardware_there_is_nothing_to_check(here, ann2snn):
    """`--hardware none` is a usage error here."""
    done = ann2snn("check", "example_net", "--hardware", "none")
    assert done.code == 2
    assert "--hardware v1" in done.err


def test_your_own_hardware_is_read_from_its_file(here, ann2snn):
    """`ann2snn cp v1 .`, edit, check."""
    assert ann2snn("cp", "v1", ".").code == 0
    text = (here / "v1.yaml").read_text().replace("name: v1", "name: mine").replace("4: 28", "4: 15")
    (here / "v1.yaml").write_text(text)
    done = ann2snn("check", "example_net", "--hardware", "./v1.yaml", "--json")
    assert done.code == 3
    assert done.document["hardware"]["name"] == "mine"
    assert [(v["layer"], v["limit"]) for v in done.document["hardware"]["violations"]] == [("conv3", 15)]
