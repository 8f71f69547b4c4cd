"""What the C99 program cannot do is refused before it is built, everything at once; the tables stay C."""

from pathlib import Path

import pytest

from ann2snn_cli.twins.c_tables import tables
from ann2snn_cli.twins.replay import Damaged, Network, Pack

CONTRACT = {"timesteps": 4, "delay": 0, "reset_mode": "zero", "comparator": ">="}
SIGNED = "two's complement"


def parameter(**fields):
    """The entry of a parameter of one word."""
    return {"file": "f.mem", "shape": [1], "words": 1, "bits": 4, "encoding": SIGNED, "per": "layer"} | fields


def layer(name, kind, inputs, shape, parameters=(), **fields):
    """The entry of a layer."""
    parameters = dict(parameters)
    return {"name": name, "kind": kind, "inputs": inputs, "shape": shape, "parameters": parameters} | fields


def pack_of(*layers, contract=(), widest_bits=8, samples=("s",)):
    """A pack of these layers behind an input [2, 4, 4]."""
    x = layer("x", "input", [], [2, 4, 4], bits=8, encoding="unsigned")
    network = Network(CONTRACT | dict(contract), [x, *layers], [layers[-1]["name"]], widest_bits, {})
    entries = [{"name": name, "stimulus": {"x": "in"}, "result": "out", "expect": {}} for name in samples]
    return Pack(Path("nowhere"), {"samples": entries, "recorded": {"steps": 4, "layers": []}}, network)


def refusals(pack):
    """(layer, what) of everything that is refused."""
    with pytest.raises(Damaged) as caught:
        tables(pack)
    return [(problem.layer, problem.what) for problem in caught.value.problems]


def window(**fields):
    """The geometry of a 2x2 window."""
    return {"kernel": [2, 2], "stride": [2, 2], "padding": [0, 0], "dilation": [1, 1]} | fields


MISFIT = "its shape does not follow from those of its inputs"


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (layer("b", "softmax", ["x"], [2, 4, 4]), "layers of the kind 'softmax' are unknown"),
        (layer("b", "gather", ["x"], []), "a shape of 0 axes is none of 1 to 8"),
        (layer("b", "reshape", ["x"], [1] * 8 + [32]), "a shape of 9 axes is none of 1 to 8"),
        (layer("b", "sum_pool", ["x"], [2, 2, 2], **window(kernel=[2])),
         "a window of 1 axes in a shape of 3"),
        (layer("b", "scale", ["x"], [2, 4, 4], {"weight": parameter(bits=63)}),
         f"words of 63 bits in {SIGNED} are unknown"),
        (layer("b", "scale", ["x"], [2, 4, 4], {"weight": parameter(encoding="gray")}),
         "words of 4 bits in gray are unknown"),
        (layer("b", "reshape", ["x"], [2, 15]), MISFIT),
        (layer("b", "scale", ["x"], [2, 4, 2], {"weight": parameter()}), MISFIT),
        (layer("b", "add", ["x", "x"], [2, 4, 4], {"weight.0": parameter()}), MISFIT),
        (layer("b", "concat", ["x", "x"], [3, 4, 4]), MISFIT),
        (layer("b", "concat", [], [3, 4, 4]), MISFIT),
        (layer("b", "permute", ["x"], [4, 2, 4], order=[2, 1, 0]), MISFIT),
        (layer("b", "linear", ["x"], [2, 3, 5], {"weight": parameter()}), MISFIT),
        (layer("b", "conv", ["x"], [3, 2, 2], {"weight": parameter()}, **window(), groups=2), MISFIT),
        (layer("b", "sum_pool", ["x"], [3, 2, 2], **window()), MISFIT),
        (layer("b", "integrate", ["x", "x"], [2, 4, 4], potential={"bits": 9}), MISFIT),
    ],
)  # fmt: skip
def test_a_layer_that_the_program_cannot_do_is_refused_with_the_reason(bad, why):
    """And named."""
    assert refusals(pack_of(bad)) == [("b", why)]


def test_a_sample_shows_something_to_every_input():
    """To an input without a stimulus nothing could be shown; without an input, nothing at all."""
    second = layer("y", "input", [], [1], bits=9, encoding="unsigned")
    out = layer("b", "reshape", ["x"], [32])
    assert refusals(pack_of(second, out)) == [("", "sample s does not hold a stimulus for each input")]
    pack = pack_of(out)
    pack.network.layers[:] = [out | {"inputs": ["b"], "shape": [32]}]
    pack.manifest["samples"][0]["stimulus"] = {}
    assert refusals(pack) == [("", "it has no input")]


def test_everything_is_refused_at_once():
    """Widths, samples and layers in one error."""
    bad = layer("b", "softmax", ["x"], [1])
    second = layer("y", "input", [], [1], bits=99, encoding="unsigned")
    assert refusals(pack_of(second, bad, widest_bits=63, samples=())) == [
        ("", "sums of 63 bits do not fit 64-bit integers"),
        ("", "it has no samples"),
        ("y", "words of 99 bits in unsigned are unknown"),
        ("b", "layers of the kind 'softmax' are unknown"),
    ]


def test_a_contract_that_makes_no_sense_is_refused_in_words():
    """All that is wrong with it."""
    contract = {"delay": 5, "reset_mode": "half", "comparator": "<"}
    assert refusals(pack_of(layer("b", "reshape", ["x"], [32]), contract=contract)) == [
        ("", "its delay is 5, not a whole number from 0 to the timesteps, 4"),
        ("", "its reset_mode is 'half', not one of subtraction, zero"),
        ("", "its comparator is '<', not one of >=, >"),
    ]


def test_potentials_are_expected_of_neurons_alone():
    """Where else would they be."""
    pack = pack_of(layer("b", "reshape", ["x"], [32]))
    pack.manifest["samples"][0]["expect"] = {"b": {"potentials": "b.vmem.mem"}}
    assert refusals(pack) == [("b", "potentials are expected of a layer that has none")]


def test_missing_axes_come_first_and_words_follow_from_the_geometry():
    """A 2d convolution has z = 1; it reads as many weights as it uses, whatever the manifest counts."""
    weight = parameter(words=7, shape=[7])
    del weight["per"]
    text = tables(
        pack_of(layer("b", "conv", ["x"], [4, 2, 3], {"weight": weight}, **window(padding=[0, 1]), groups=2))
    )
    for line in (
        '{.words = {.file = "f.mem", .count = 16, .bits = 4, .encoding = TWOS_COMPLEMENT}, .share = 1}',
        ".kernel = {1, 2, 2}",
        ".stride = {1, 2, 2}",
        ".padding = {0, 0, 1}",
        ".dilation = {1, 1, 1}",
        ".groups = 2",
    ):
        assert line in text


@pytest.mark.parametrize(("per", "count", "share"), [("layer", 1, 32), ("channel", 2, 16), ("neuron", 32, 1)])
def test_neurons_share_words_as_the_manifest_says(per, count, share):
    """One word for all, for each channel, for each neuron; an absent one has no file."""
    neurons = layer("b", "integrate", ["x"], [2, 4, 4], {"bias": parameter(per=per)}, potential={"bits": 9})
    text = tables(pack_of(neurons))
    assert f".count = {count}, .bits = 4, .encoding = TWOS_COMPLEMENT}}, .share = {share}}}" in text
    assert text.count("{.share = 1}") == 2


def test_names_cannot_break_out_of_their_strings():
    """Everything but plain letters is written in octal."""
    text = tables(pack_of(layer('a"\\??/é\n', "reshape", ["x"], [32])))
    assert r'.name = "a\042\134\077\077/\303\251\012",' in text
    assert r'.key = "\042a\134\042\134\134\077\077/\134u00e9\134n\042"' in text
    assert text.isascii()
