"""What twins in other languages print is read strictly: a report that is not whole is no agreement."""

from pathlib import Path

import pytest

from ann2snn_cli.twins.replay import Damaged, Difference, Network, Outcome, Pack
from ann2snn_cli.twins.report import parse

LAYERS = [{"name": "zeta", "shape": [2]}, {"name": "alpha beta", "shape": [3]}]
SPIKE = "MISMATCH sample=a layer=zeta step=2 neuron=1 field=spike expected=0 got=1"


@pytest.fixture
def pack() -> Pack:
    """Two samples with 2·2 spikes, 2·3 potentials and 3 + 2 results each: 15 values a sample."""
    expect = {"zeta": {"spikes": "z"}, "alpha beta": {"potentials": "a"}}
    samples = [{"name": name, "expect": expect} for name in ("b", "a")]
    manifest = {"samples": samples, "recorded": {"steps": 2, "layers": ["zeta", "alpha beta"]}}
    return Pack(Path("nowhere"), manifest, Network({}, LAYERS, ["alpha beta", "zeta"], 8, {}))


def report(*lines):
    """The lines as a program prints them."""
    return "".join(f"{line}\n" for line in lines)


def mismatch(sample, layer, step, neuron, field):
    """A line, and what it means."""
    line = (
        f"MISMATCH sample={sample} layer={layer} step={step} neuron={neuron} field={field} expected=-3 got=4"
    )
    return line, Difference(sample, layer, step, neuron, field, -3, 4)


def test_a_report_without_mismatches_is_agreement(pack):
    """The RESULT line alone, talk around it ignored."""
    outcome = parse(report("VVP says hello", "RESULT checked=30 mismatch=0"), pack, ["b", "a"], "twin")
    assert outcome == Outcome(30, 0, None)


def test_a_mismatch_line_is_read_field_by_field(pack):
    """Names with blanks, negative numbers, carriage returns."""
    line, difference = mismatch("a", "alpha beta", 2, 1, "potential")
    outcome = parse(f"{line}\r\nRESULT checked=15 mismatch=1\r\n", pack, ["a"], "twin")
    assert outcome == Outcome(15, 1, difference)


@pytest.mark.parametrize("unknown", ["x", "X", "z"])
def test_a_value_that_is_no_number_is_none(pack, unknown):
    """A simulator's x."""
    outcome = parse(report(SPIKE[:-1] + unknown, "RESULT checked=15 mismatch=1"), pack, ["a"], "twin")
    assert outcome.first == Difference("a", "zeta", 2, 1, "spike", 0, None)


def test_the_first_is_found_whatever_the_order_of_the_lines(pack):
    """Samples as asked for, layers as in the manifest (not by the alphabet), steps, outputs last."""
    ordered = [
        mismatch("b", "zeta", 1, 1, "spike"),
        mismatch("b", "zeta", 1, 0, "potential"),
        mismatch("b", "zeta", 2, 0, "spike"),
        mismatch("b", "zeta", 10, 0, "spike"),
        mismatch("b", "alpha beta", 1, 0, "spike"),
        mismatch("b", "alpha beta", 0, 2, "result"),
        mismatch("b", "zeta", 0, 0, "result"),
        mismatch("a", "zeta", 1, 0, "spike"),
    ]
    for start in range(len(ordered)):
        lines = [line for line, _ in reversed(ordered[start:])]
        outcome = parse(report(*lines, f"RESULT checked=30 mismatch={len(lines)}"), pack, ["b", "a"], "twin")
        assert outcome.first == ordered[start][1]


def test_more_mismatches_may_be_counted_than_named(pack):
    """Programs stop printing at some number."""
    assert parse(report(SPIKE, "RESULT checked=15 mismatch=7"), pack, ["a"], "twin").mismatches == 7


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it printed nothing"),
        ("Segmentation fault\n", "its report is not whole: the last line is 'Segmentation fault'"),
        (report(SPIKE), "its report is not whole"),
        (report("RESULT checked=15 mismatch=0", "RESULT checked=15 mismatch=0"), "its report is not whole"),
        (report("RESULT checked=15 mismatch="), "its report is not whole"),
        (report(SPIKE.replace("=1 f", "=? f"), "RESULT checked=15 mismatch=1"), "its report is not whole"),
        (report("RESULT checked=14 mismatch=0"), "it checked 14 values, not 15"),
        (report("RESULT checked=30 mismatch=0"), "it checked 30 values, not 15"),
        (report(SPIKE, "RESULT checked=15 mismatch=0"), "it counted 0 mismatches and named 1"),
        (report("RESULT checked=15 mismatch=3"), "it counted 3 mismatches and named 0"),
        (
            report(SPIKE.replace("zeta", "eta"), "RESULT checked=15 mismatch=1"),
            "'eta', which the pack does not hold",
        ),
        (report(SPIKE.replace("spike", "spook"), "RESULT checked=15 mismatch=1"), "it names 'spook'"),
    ],
)
def test_a_report_that_is_not_whole_is_refused(pack, text, why):
    """Never an agreement, and the program that wrote it is named."""
    with pytest.raises(Damaged) as caught:
        parse(text, pack, ["a"], "twin.v")
    assert why in str(caught.value)
    assert caught.value.problems[0].file == "twin.v"
