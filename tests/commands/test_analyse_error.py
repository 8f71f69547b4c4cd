"""`analyse-error`: where a conversion loses accuracy: two pictures, their numbers, a manifest."""

import csv
import json
import shutil

import pytest

FILES = {"accuracy.png", "accuracy.csv", "layers.png", "layers.csv", "manifest.json"}
WORDS = ("analyse-error", "./tiny.py", "-e", "0", "-T", "6")


@pytest.fixture(scope="module")
def folder(trained, tmp_path_factory, in_folder, ann2snn):
    """A folder in which the tiny network was analysed."""
    folder = shutil.copytree(trained, tmp_path_factory.mktemp("analysed"), dirs_exist_ok=True)
    with in_folder(folder):
        done = ann2snn(*WORDS, "--json")
    assert done.code == 0, done.err
    (folder / "analysis.json").write_text(done.out)
    return folder


@pytest.fixture
def there(folder, monkeypatch):
    """Work in that folder."""
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def analysed(there):
    """The analysis as a document."""
    return json.loads((there / "analysis.json").read_text())


def test_the_files_are_there_and_the_pictures_are_pictures(analysed, there):
    """A9: PNG and CSV in a folder of their own."""
    folder = there / "tiny_analysis"
    assert {path.name for path in folder.iterdir()} == FILES
    for name in ("accuracy.png", "layers.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        assert (folder / name).stat().st_size > 5_000
    assert {path.rpartition("/")[2] for path in analysed["files"]} == FILES - {"manifest.json"}


def test_accuracy_is_measured_at_1_2_4_and_t_steps(analysed, ann2snn):
    """Converted anew for each, as `convert` would."""
    assert [row["timesteps"] for row in analysed["accuracy"]] == [1, 2, 4, 6]
    converted = ann2snn("convert", "./tiny.py", "-e", "0", "-T", "2", "--vectors", "0", "--json").document[
        "accuracy"
    ]
    row = analysed["accuracy"][1]
    assert {name: row[name] for name in ("quantized", "stepwise", "layerwise")} == {
        name: converted[name] for name in ("quantized", "stepwise", "layerwise")
    }
    assert analysed["ann"] == converted["ann"]
    assert all(row["layerwise"] == row["quantized"] for row in analysed["accuracy"])


def test_a_quantization_error_is_that_of_the_network_before_any_correction_of_timing(tiny, ann2snn):
    """Whatever delay is analysed, so the bars of two pictures can be compared; timing is what differs."""
    deep = (
        "nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)"  # behind one population nothing is late
    )
    (tiny / "deep.py").write_text((tiny / "tiny.py").read_text().replace("nn.AvgPool2d(2)", deep))
    words = ("analyse-error", "./deep.py", "--ann_weight", "none", "-e", "0", "-T", "4", "--json")
    stepwise, layerwise = (
        ann2snn(*words, "--schedule", name, "--save_dir", name).document for name in ("stepwise", "layerwise")
    )
    assert [row["quantized"] for row in stepwise["accuracy"]] == [
        row["quantized"] for row in layerwise["accuracy"]
    ]
    assert [layer["quantization"] for layer in stepwise["layers"]] == [
        layer["quantization"] for layer in layerwise["layers"]
    ]
    assert all(layer["timing"] == 0 for layer in layerwise["layers"])
    assert any(layer["timing"] > 0 for layer in stepwise["layers"])


def test_the_csv_files_hold_the_numbers_of_the_document(analysed, there):
    """Every row, every column."""
    for name, key in (("accuracy.csv", "accuracy"), ("layers.csv", "layers")):
        with (there / "tiny_analysis" / name).open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == len(analysed[key])
        for row, wanted in zip(rows, analysed[key], strict=True):
            assert list(row) == list(wanted)
            assert [row[column] for column in row] == ["" if v is None else str(v) for v in wanted.values()]


def test_errors_are_given_by_layer_and_cause(analysed):
    """A9: Quantization and timing for every population and the read-out, which never fires."""
    layers = {layer["layer"]: layer for layer in analysed["layers"]}
    assert len(layers) == 2
    first, last = layers.values()
    assert 0 < first["firing_rate"] < 1
    assert last["firing_rate"] is None
    for layer in layers.values():
        assert layer["total"] <= layer["quantization"] + layer["timing"] + 1e-12
        assert layer["total"] > 0


@pytest.mark.usefixtures("there")
def test_the_text_names_the_files(ann2snn):
    """A second run replaces the first."""
    done = ann2snn(*WORDS)
    assert done.code == 0
    for said in (
        "timesteps",
        "the biases of each SNN are corrected for its own D",
        "spike timing",
        "tiny_analysis/accuracy.png",
    ):
        assert said in done.out


def test_a_network_without_class_scores_gets_no_accuracy_picture(here, ann2snn):
    """The debug networks give maps: their layers are analysed all the same."""
    done = ann2snn("analyse-error", "debug_net2", "-e", "0", "-T", "2", "--weight_bitwidth", "8", "--json")
    assert done.code == 0, done.err
    assert "no accuracy picture" in done.err
    names = {path.name for path in (here / "debug_net2_analysis").iterdir()}
    assert names == FILES - {"accuracy.png"}
    manifest = json.loads((here / "debug_net2_analysis/manifest.json").read_text())
    listed, document = manifest.pop("files"), done.document
    assert set(listed) == FILES - {"accuracy.png", "manifest.json"}
    assert {f"debug_net2_analysis/{name}" for name in listed} == set(document.pop("files"))
    assert manifest.pop("manifest_sha256")
    assert manifest == document


def test_what_is_not_ours_is_refused(tiny, ann2snn):
    """A folder of somebody else's under that name."""
    (tiny / "mine").mkdir()
    (tiny / "mine/notes.txt").write_text("mine")
    done = ann2snn(*WORDS, "--save_dir", "mine")
    assert done.code == 1
    assert "--save_dir" in done.err
    assert [path.name for path in (tiny / "mine").iterdir()] == ["notes.txt"]
