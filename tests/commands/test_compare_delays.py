"""`compare-delays`: accuracy against latency, over numbers of steps and firing delays."""

import csv
import json
import shutil

import pytest

FILES = {"accuracy.png", "accuracy.csv", "references.csv", "manifest.json"}
UNTRAINED = ("./tiny.py", "--ann_weight", "none", "--weight_bitwidth", "3")  # scores differ
WORDS = ("compare-delays", *UNTRAINED, "--steps", "8, 4")


@pytest.fixture(scope="module")
def folder(trained, tmp_path_factory, in_folder, ann2snn):
    """A folder in which the delays of the tiny network were compared."""
    folder = shutil.copytree(trained, tmp_path_factory.mktemp("compared"), dirs_exist_ok=True)
    with in_folder(folder):
        done = ann2snn(*WORDS, "--json")
    assert done.code == 0, done.err
    (folder / "delays.json").write_text(done.out)
    return folder


@pytest.fixture
def compared(folder, monkeypatch):
    """The comparison as a document."""
    monkeypatch.chdir(folder)
    return json.loads((folder / "delays.json").read_text())


def test_every_delay_of_every_number_of_steps_is_there_the_quickest_first(compared):
    """One population: the answer is there after T + D steps."""
    found = [(each["timesteps"], each["delay"], each["latency_steps"]) for each in compared["snns"]]
    assert sorted(found) == [
        (4, 0, 4), (4, 1, 5), (4, 2, 6), (4, 4, 8), (8, 0, 8), (8, 1, 9), (8, 2, 10), (8, 4, 12), (8, 8, 16),
    ]  # fmt: skip
    assert [each[2] for each in found] == sorted(each[2] for each in found)


@pytest.mark.parametrize(("steps", "delay"), [(4, 1), (8, 4)])
def test_a_score_is_what_convert_says(compared, ann2snn, steps, delay):
    """Of the same T and D, without finetuning; at D = T that of the quantized network."""
    words = ("-T", str(steps), "--delay", str(delay), "-e", "0", "--vectors", "0", "--json")
    scores = json.loads(ann2snn("convert", *UNTRAINED, *words).out)["accuracy"]
    found = {(each["timesteps"], each["delay"]): each["accuracy"] for each in compared["snns"]}
    assert found[steps, delay] == scores[f"delay_{delay}"]
    assert found[steps, 0] == scores["stepwise"]
    assert found[steps, steps] == scores["layerwise"] == compared["quantized"][str(steps)]
    assert compared["ann"] == scores["ann"]


def test_what_nothing_as_quick_beats_is_marked(compared):
    """Of all that are as quick or quicker it scores best."""
    for each in compared["snns"]:
        quicker = [other for other in compared["snns"] if other["latency_steps"] <= each["latency_steps"]]
        if each["best"]:
            assert each["accuracy"] == max(other["accuracy"] for other in quicker)
        else:
            assert any(other["best"] and other["accuracy"] >= each["accuracy"] for other in quicker)


def test_picture_and_numbers_are_written(compared, folder):
    """The table holds what the document says, and the ANN and the quantized networks."""
    place = folder / "tiny_delays"
    assert {path.name for path in place.iterdir()} == FILES
    assert (place / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    with (place / "accuracy.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["accuracy"]) for row in rows] == [each["accuracy"] for each in compared["snns"]]
    with (place / "references.csv").open(newline="") as file:
        lines = {row["network"]: float(row["accuracy"]) for row in csv.DictReader(file)}
    quantized = {f"quantized T={steps}": score for steps, score in compared["quantized"].items()}
    assert lines == {"ann": compared["ann"], **quantized}


def test_people_get_a_table_with_stars(compared, ann2snn):
    """The best so far are marked."""
    done = ann2snn("compare-delays", *UNTRAINED, "--steps", "4", "--save_dir", "again")
    assert done.code == 0
    assert "latency (steps)" in done.out
    assert "*" in done.out


@pytest.mark.parametrize(
    ("steps", "said"), [("", "no number of steps is named"), ("4,x,0", "2 settings are wrong")]
)
def test_wrong_numbers_of_steps_are_refused(compared, ann2snn, steps, said):
    """All at once."""
    done = ann2snn("compare-delays", *UNTRAINED, "--steps", steps)
    assert done.code == 2
    assert said in done.err
    assert "--steps" in done.err
