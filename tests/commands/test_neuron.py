"""`neuron`: the firing rate and the spikes of one neuron, against its equations in plain Python."""

import csv
import json
import struct

import pytest

from ann2snn_cli import Settings
from ann2snn_cli.config import Timing
from ann2snn_cli.workflows.neuron import NeuronRequest, neuron

FILES = {"rate.png", "rate.csv", "spikes.png", "spikes.csv", "manifest.json"}


def table(path):
    """The rows of a CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def by_hand(x, threshold, timesteps, delay, reset, rounding):
    """(step, spike, potential) of one neuron at each firing step."""
    half = threshold // 2
    bias = half // timesteps if rounding == "bias" else 0
    potential, rows = half if rounding == "potential" else 0, []
    for step in range(1, timesteps + delay + 1):
        potential += x + bias if step <= timesteps else 0
        if step > delay:
            spike = int(potential >= threshold)
            potential = 0 if spike and reset == "zero" else potential - spike * threshold
            rows.append((step, spike, potential))
    return rows


@pytest.mark.parametrize(
    ("threshold", "timesteps", "delay", "reset", "rounding"),
    [
        (64, 16, 0, "subtraction", "potential"),
        (7, 5, 0, "subtraction", "none"),
        (33, 4, 2, "subtraction", "bias"),
        (20, 6, 6, "subtraction", "potential"),
        (20, 6, 3, "zero", "none"),
        (1, 1, 1, "zero", "potential"),
    ],
)
def test_spikes_and_potentials_are_those_of_the_equations(
    threshold, timesteps, delay, reset, rounding, here, ann2snn
):
    """(B5) Both tables, step by step and input by input, for every reset, rounding and delay."""
    words = ("--threshold", threshold, "-T", timesteps, "--delay", delay, "--reset_mode", reset)
    done = ann2snn("neuron", *words, "--rounding", rounding, "--inputs", "-3,2,5,40")
    assert done.code == 0, done.err

    neuron = (threshold, timesteps, delay, reset, rounding)
    wanted = [(x, *row) for x in (-3, 2, 5, 40) for row in by_hand(x, *neuron)]
    steps = table(here / "neuron_experiment/spikes.csv")
    assert [tuple(map(int, row.values())) for row in steps] == wanted
    rates = table(here / "neuron_experiment/rate.csv")
    assert min(int(row["input"]) for row in rates) < 0
    assert max(int(row["input"]) for row in rates) > threshold
    for row in rates:
        count = sum(spike for _, spike, _ in by_hand(int(row["input"]), *neuron))
        assert int(row["spikes"]) == count
        assert float(row["rate"]) == count / timesteps
        assert float(row["clipped_relu"]) == min(max(int(row["input"]) / threshold, 0), 1)


def test_a_neuron_that_waits_for_its_whole_input_counts_by_the_floor_formula(here, ann2snn):
    """(D3) N = clip(floor((V0 + T·x)/threshold), 0, T) with V0 = floor(threshold/2)."""
    done = ann2snn("neuron", "--threshold", 29, "-T", "8", "--schedule", "layerwise", "--json").document
    assert done["delay"] == 8
    assert len(done["rates"]) > 40
    for row in done["rates"]:
        assert row["spikes"] == min(max((14 + 8 * row["input"]) // 29, 0), 8)


def test_the_files_are_pictures_and_their_numbers(here, ann2snn):
    """Two PNG, a table for each, and the same numbers in the document and from Python."""
    done = ann2snn("neuron", "-T", "4", "--json")
    folder = here / "neuron_experiment"
    assert {path.name for path in folder.iterdir()} == FILES
    for name in ("rate.png", "spikes.png"):
        content = (folder / name).read_bytes()
        width, height = struct.unpack(">II", content[16:24])
        assert content[:8] == b"\x89PNG\r\n\x1a\n"
        assert width > height > 500
    for name, key in (("rate.csv", "rates"), ("spikes.csv", "steps")):
        document = [{k: str(v) for k, v in row.items()} for row in done.document[key]]
        assert document == table(folder / name)

    report = neuron(NeuronRequest(Settings(timing=Timing(timesteps=4)), save_dir=here / "again"))
    assert json.loads(json.dumps(report.rates)) == done.document["rates"]
    assert (here / "again/rate.csv").read_bytes() == (folder / "rate.csv").read_bytes()


def test_the_text_shows_the_spikes_and_a_second_run_replaces_the_first(here, ann2snn):
    """Half the threshold fires at every second step: it starts half full."""
    ann2snn("neuron", "--threshold", "10", "-T", "3")
    done = ann2snn("neuron", "--threshold", "10", "-T", "6", "--inputs", "5")
    assert done.code == 0, done.err
    assert "|.|.|." in done.out
    assert "neuron_experiment/spikes.png" in done.out
    assert len(table(here / "neuron_experiment/spikes.csv")) == 6


def test_many_inputs_are_drawn_at_some_of_them(here, ann2snn):
    """A threshold of millions is no table of millions; the ends and what is shown are there."""
    done = ann2snn("neuron", "--threshold", "4000001", "-T", "2", "--inputs", "1234567", "--json")
    values = [row["input"] for row in done.document["rates"]]
    assert len(values) <= 402
    assert values == sorted(set(values))
    assert 1234567 in values
    assert (values[0], values[-1]) == (-1000000, 5000002)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--threshold", "0"), "--threshold"),
        (("--threshold", "many"), "--threshold"),
        (("--inputs", "1,2.5"), "no whole number"),
        (("--inputs", "1,1"), "--inputs"),
        (("--inputs", "1,2,3,4,5,6,7,8,9"), "--inputs"),
        (("--inputs", "99999999999"), "--inputs"),
        (("-T", "5000"), "--timesteps"),
        (("--delay", "17"), "delay"),
        (("--engine", "fused"), "--engine"),
    ],
)
def test_what_is_out_of_range_is_refused_by_its_flag(words, said, here, ann2snn):
    """In words, with a remedy, and nothing is written."""
    done = ann2snn("neuron", *words)
    assert done.code == 2
    assert said in done.err
    assert "remedy" in done.err
    assert list(here.iterdir()) == []


def test_what_is_not_ours_is_refused(here, ann2snn):
    """A folder of somebody else's under that name."""
    (here / "neuron_experiment").mkdir()
    (here / "neuron_experiment/rate.csv").write_text("mine")
    done = ann2snn("neuron")
    assert done.code == 1
    assert "--save_dir" in done.err
    assert (here / "neuron_experiment/rate.csv").read_text() == "mine"
