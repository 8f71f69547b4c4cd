"""`convert`: one command from a trained network to the integer SNN, its report, settings and vector pack."""

import hashlib
import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from ann2snn_cli.config import delay_name
from ann2snn_cli.stages.export import pth, replacement
from ann2snn_cli.stages.simulate import ENGINES, simulate
from ann2snn_cli.twins import replay

FIELDS = {
    "schema", "network", "dataset", "test_samples", "metric", "higher_is_better", "accuracy", "scores",
    "layerwise_differs_from_quantized", "layerwise_largest_difference", "theorem_exception",
    "largest_output_error", "timesteps", "delay", "schedule", "written", "bias_correction",
    "latency_steps", "latency", "damage", "firing_rate", "spikes_per_sample", "engine", "engine_reason",
    "hardware", "notes", "warnings", "weights", "settings", "files", "encoding", "real_operators",
}  # fmt: skip
TINY = ("convert", "./tiny.py", "--batch_size", "16", "--vectors", "2")


# The example ---------------------------------------------------------------------------------------


def test_the_document_has_the_promised_fields(example):
    """What a script may rely on."""
    _, document = example
    assert set(document) == FIELDS
    assert document["schema"] == "ann2snn/convert/1"
    assert list(document["accuracy"]) == ["ann", "quantized", "stepwise", "layerwise"]
    assert all(0 <= value <= 1 for value in document["accuracy"].values())
    assert document["latency_steps"] == document["latency"]["stepwise"]["latency_steps"] == 16
    assert document["latency"]["layerwise"]["latency_steps"] == 16 + 6 * 16
    assert list(document["firing_rate"])[:2] == ["relu1", "pool1.neurons"]
    assert all(0 < rate < 1 for rate in document["firing_rate"].values())
    hardware = document["hardware"]
    assert (hardware["name"], hardware["ok"], hardware["violations"]) == ("v1", True, [])
    assert {"rule", "layer", "actual", "limit", "remedy"} <= set(hardware["verdicts"][0])
    assert document["settings"]["quantize"]["weight_bitwidth"] == 4


def test_the_example_is_within_a_point_of_the_ann_and_exactly_the_quantized_network(example):
    """4 bits and 16 steps on the full digits test set; layerwise on every single image."""
    accuracy = example[1]["accuracy"]
    assert example[1]["test_samples"] == 450
    assert accuracy["ann"] > 0.95
    assert accuracy["stepwise"] >= accuracy["ann"] - 0.01
    assert accuracy["layerwise"] == accuracy["quantized"]
    assert example[1]["layerwise_differs_from_quantized"] == 0


def test_the_files_are_listed_with_their_sizes_and_there_are_no_others(example):
    """A10: The .pth, the settings, the vector pack, the summary; nothing temporary is left."""
    folder, document = example
    listed = {file["path"].rstrip("/"): file["bytes"] for file in document["files"]}
    assert sorted(listed) == sorted(path.name for path in folder.iterdir())
    assert listed["example_net_snn.pth"] == (folder / "example_net_snn.pth").stat().st_size
    pack = [path for path in (folder / "example_net_snn_pack").rglob("*") if path.is_file()]
    assert listed["example_net_snn_pack"] == sum(path.stat().st_size for path in pack)


def test_the_vector_pack_is_that_of_the_example(example):
    """A10: Ten test samples by default, then the corner cases; it replays, and says where it comes from."""
    folder, document = example
    manifest = pack_of(folder, "example_net")
    assert [sample["name"] for sample in real_samples(manifest)] == [f"test_{i:04d}" for i in range(10)]
    corners = {"zeros", "max", "checkerboard", "pixel", "noise", "drive_positive", "drive_negative", "tie"}
    assert {each["name"] for each in [*manifest["samples"], *manifest["absent"]]} >= corners
    assert (manifest["network"], manifest["dataset"]) == ("example_net", "digits")
    assert manifest["contract"]["timesteps"] == document["timesteps"]
    assert (
        replay.main([str(folder / "example_net_snn_pack"), "--sample", "tie", "--sample", "test_0000"]) == 0
    )


def pack_of(folder: Path, name: str) -> dict[str, Any]:
    """The manifest of a network's pack."""
    manifest = json.loads((folder / f"{name}_snn_pack/manifest.json").read_text())
    assert isinstance(manifest, dict)
    return manifest


def real_samples(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """Those of the test set."""
    return [sample for sample in manifest["samples"] if sample["kind"] == "real"]


def test_the_summary_beside_the_pth_is_the_document(example):
    """What --json prints is what is kept, with a hash."""
    folder, document = example
    kept = json.loads((folder / "example_net_snn.json").read_text())
    assert kept.pop("file_sha256")
    assert kept == document


def test_the_pth_says_where_it_came_from(example):
    """Network, data, checkpoint, settings, accuracies, tool."""
    folder, document = example
    provenance = torch.load(folder / "example_net_snn.pth", weights_only=True)["provenance"]
    for name in ("network", "dataset", "weights", "settings", "scores", "damage"):
        assert json.loads(json.dumps(provenance[name])) == document[name]  # a tuple is a list there
    assert provenance["tool"].startswith("ann2snn ")
    assert len(provenance["weights"]["sha256"]) == 64


def test_the_weights_lie_on_the_grid_of_four_bits(example):
    """Integers from -7 to 7, and both ends are used somewhere."""
    graph, _ = pth.load(example[0] / "example_net_snn.pth")
    codes = torch.cat([node.op.weight.flatten() for node in graph.nodes if hasattr(node.op, "bits")])
    assert codes.dtype == torch.int8
    assert int(codes.abs().max()) == 7


@pytest.mark.parametrize("bits", [1, 2, 3, 8])
def test_layerwise_is_the_quantized_network_at_any_width(bits, here, ann2snn):
    """Whatever the accuracy: 0 of the 450 test images differ."""
    words = ("-e", "0", "--weight_bitwidth", str(bits), "--vectors", "0", "--hardware", "none", "-T", "8")
    document = ann2snn("convert", "example_net", *words, "--json").document
    assert document["accuracy"]["layerwise"] == document["accuracy"]["quantized"]
    assert document["layerwise_differs_from_quantized"] == 0
    assert document["test_samples"] == 450


def test_the_text_tells_the_story(tiny, ann2snn):
    """Accuracies, the theorem, the hardware (or that none was asked), rates, files."""
    done = ann2snn(*TINY, "-e", "0", "-T", "4")
    assert done.code == 0
    for said in (
        "tiny on npz:tiny.npz: 30 test samples, 4-bit weights, 4 timesteps",
        "ANN ",
        "SNN stepwise ",
        "layerwise SNN = quantized ANN: the same output on all 30 test samples",
        "hardware: none, so no limits were checked",
        "firing rate",
        "tiny_snn.pth",
        "tiny_snn_pack/",
    ):
        assert said in done.out
    assert "trace and fold" in done.err


# The debug networks --------------------------------------------------------------------------------


def golden(name: str) -> torch.Tensor:
    """What the network's docstring says that ones give, by plain sums in plain Python."""

    def conv(x, weight, padding=0):
        x = torch.nn.functional.pad(x, [padding] * 4)
        rows, columns = (
            size - kernel + 1 for size, kernel in zip(x.shape[1:], weight.shape[2:], strict=True)
        )
        kernel = weight.shape[2]
        return torch.stack([
            torch.stack([
                torch.stack([(x[:, r : r + kernel, c : c + kernel] * w).sum() for c in range(columns)])
                for r in range(rows)
            ])
            for w in weight
        ])  # fmt: skip

    def ramp(*shape):
        return torch.arange(float(torch.Size(shape).numel())).reshape(shape)

    if name == "debug_net0":
        return conv(torch.ones(1, 4, 4), ramp(2, 1, 2, 2))
    if name == "debug_net1":
        return conv(golden("debug_net0"), ramp(3, 2, 3, 3))
    if name == "debug_net2":
        return conv(conv(torch.ones(2, 4, 4), ramp(2, 2, 2, 2)), ramp(3, 2, 3, 3), padding=1)
    return torch.ones(1, 1, 1)


def test_the_golden_values_are_those_that_are_written_down():
    """The oracle of the next test, held against the numbers of the specification."""
    assert golden("debug_net0").flatten().tolist() == [6.0] * 9 + [22.0] * 9
    assert golden("debug_net1").flatten().tolist() == [2790.0, 7326.0, 11862.0]
    values = golden("debug_net2").flatten()
    assert (len(values), float(values.min()), float(values.max())) == (27, 4272.0, 50652.0)


@pytest.mark.parametrize(
    ("name", "dataset"),
    [("debug_net0", "debug0"), ("debug_net1", "debug0"), ("debug_net2", "debug1"), ("debug_net3", "debug2")],
)
def test_a_debug_network_converts_simulates_and_meets_its_golden_values(name, dataset, here, ann2snn):
    """8 bits and 64 steps come within 3 % of the largest value, whatever the delay."""
    words = ("-e", "0", "--dataset", dataset, "--weight_bitwidth", "8", "-T", "64", "--mode", "max")
    document = ann2snn("convert", name, *words, "--json").document
    assert document["accuracy"] == dict.fromkeys(("ann", "quantized", "stepwise", "layerwise"))
    assert document["layerwise_differs_from_quantized"] == 0
    assert ann2snn("simulate", f"{name}_snn.pth").code == 0
    graph, _ = pth.load(here / f"{name}_snn.pth")
    wanted = golden(name)
    for delay in (0, 32, 64):
        (output,) = simulate(graph, torch.ones(1, *graph.inputs[0].shape), delay=delay).outputs
        assert float((output[0] - wanted).abs().max() / wanted.max()) < 0.03, delay


def test_a_debug_network_of_one_weight_is_exact(here, ann2snn):
    """debug_net3 has no room for an error."""
    document = ann2snn("convert", "debug_net3", "-e", "0", "--weight_bitwidth", "8", "--json").document
    assert document["largest_output_error"] < 1e-6


# The same run again --------------------------------------------------------------------------------


def test_two_runs_give_the_same_bytes_and_another_seed_does_not(tiny, ann2snn):
    """With finetuning: the .pth and the vector pack, whose manifest holds the hash of every file."""
    digests = []
    for seed in ("3", "3", "4"):
        assert ann2snn(*TINY, "-e", "1", "--seed", seed, "--overwrite").code == 0
        digests.append([sha256(tiny / "tiny_snn.pth"), sha256(tiny / "tiny_snn_pack/manifest.json")])
    assert digests[0] == digests[1]
    assert digests[0][0] != digests[2][0]


def sha256(path: Path) -> str:
    """Of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_saved_settings_repeat_the_run(tiny, ann2snn):
    """--config with the .yaml gives the same .pth, byte for byte."""
    words = ("-e", "1", "--weight_bitwidth", "3", "--channel_wise", "-T", "5", "--mode", "99%", "--seed", "7")
    assert ann2snn(*TINY, *words, "--save_file", "out/a.pth").code == 0
    first = sha256(tiny / "out/a.pth")
    (tiny / "out/a.yaml").rename(tiny / "saved.yaml")
    (tiny / "out/a.pth").unlink()
    done = ann2snn("convert", "--config", "./saved.yaml")
    assert done.code == 0, done.err
    assert sha256(tiny / "out/a.pth") == first


def test_the_saved_settings_are_complete_yaml(tiny, ann2snn):
    """Every section, no default left to a later version; the first line says how to use it."""
    assert ann2snn(*TINY, "-e", "0").code == 0
    text = (tiny / "tiny_snn.yaml").read_text()
    assert "ann2snn convert --config tiny_snn.yaml" in text.partition("\nnetwork")[0]
    saved = yaml.safe_load(text)
    assert saved == json.loads((tiny / "tiny_snn.json").read_text())["settings"]
    assert saved["data"]["dataset"] == "npz:tiny.npz"
    assert saved["check"]["hardware"] == "none"


def interrupt_after_epoch(number: int, monkeypatch, by: signal.Signals = signal.SIGINT) -> None:
    """Ctrl-C, or another signal, at the first batch after so many epochs."""
    from ann2snn_cli.commands.render import ProgressBar

    original, epochs = ProgressBar.line, []

    def line(self, text):
        original(self, text)
        epochs.extend([text] * text.startswith("epoch "))

    def advance(self, count=1):
        if len(epochs) >= number:
            signal.raise_signal(by)

    monkeypatch.setattr(ProgressBar, "line", line)
    monkeypatch.setattr(ProgressBar, "advance", advance)


@pytest.mark.parametrize(
    ("by", "what", "code"), [(signal.SIGINT, "interrupted", 130), (signal.SIGTERM, "terminated", 143)]
)
def test_an_interrupted_finetuning_is_resumed_to_the_same_bytes(by, what, code, tiny, ann2snn):
    """Stopped after epoch 1 of 3: it says --resume, which does the other two; nobody can tell them apart."""
    words = (*TINY, "-e", "3", "-T", "4")
    assert ann2snn(*words).code == 0
    whole = sha256(tiny / "tiny_snn.pth")
    (tiny / "tiny_snn.pth").unlink()
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after_epoch(1, patch, by)
        done = ann2snn(*words)
    assert done.code == code
    assert f"error: {what}\n  remedy: " in done.err
    assert "repeat the command with --resume" in done.err
    assert not (tiny / "tiny_snn.pth").exists()
    assert (tiny / ".tiny_snn.finetuning").is_file()
    resumed = ann2snn(*words, "--resume")
    assert resumed.code == 0, resumed.err
    assert "epoch 1/3" not in resumed.err
    assert "epoch 2/3" in resumed.err
    assert sha256(tiny / "tiny_snn.pth") == whole
    assert not (tiny / ".tiny_snn.finetuning").exists()


def test_who_is_stopped_before_an_epoch_is_done_is_told_of_no_resume(tiny, ann2snn):
    """Nothing is kept that could be gone on with; nor is the state of a run with other settings meant."""
    for kept, settings in ((0, "3"), (1, "3"), (0, "2")):
        with pytest.MonkeyPatch.context() as patch:
            interrupt_after_epoch(kept, patch)
            done = ann2snn(*TINY, "-e", "3", "--weight_bitwidth", settings, "--overwrite")
        assert done.code == 130
        assert ("--resume" in done.err) == bool(kept)


def test_an_interrupted_finetuning_is_not_lost_silently(tiny, ann2snn):
    """A later run without --resume refuses to remove the epochs that are kept, until --overwrite says so."""
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after_epoch(2, patch)
        assert ann2snn(*TINY, "-e", "5").code == 130
    state = tiny / ".tiny_snn.finetuning"
    kept = state.read_bytes()
    for epochs in ("1", "0"):
        done = ann2snn(*TINY, "-e", epochs)
        assert done.code == 2, done.err
        assert "an interrupted finetuning of 2 epochs lies there" in done.err
        assert "--resume" in done.err
        assert "--overwrite" in done.err
        assert state.read_bytes() == kept
    assert ann2snn(*TINY, "-e", "0", "--overwrite").code == 0
    assert not state.exists()


def test_more_samples_than_there_are_is_said(tiny, ann2snn):
    """All are used, for calibration and for a pack; how many that is stands in a note."""
    done = ann2snn(*TINY, "-e", "0", "--calibration_samples", "99999", "--json")
    assert (
        "--calibration_samples 99999: there are 90 training samples, all are used" in done.document["notes"]
    )
    notes = ann2snn("export", "tiny_snn.pth", "--samples", "9999", "--json").document["notes"]
    assert "there are 30 test samples, not 9,999: the pack holds all of them" in notes
    assert not any(
        "training samples" in note for note in ann2snn(*TINY, "-e", "0", "--json").document["notes"]
    )


def test_resume_without_epochs_is_refused_before_anything_is_loaded(here, ann2snn):
    """There is nothing to go on with: it says so even where the data do not exist."""
    done = ann2snn("convert", "example_net", "--dataset", "npz:none.npz", "-e", "0", "--resume")
    assert done.code == 2
    assert "leave --resume out, or give the epochs" in done.err


def test_who_is_stopped_while_writing_leaves_what_was_there_and_nothing_beside_it(tiny, ann2snn):
    """A signal in the midst of a pack: the earlier one stays whole, no half of the new one is left."""
    from ann2snn_cli.commands.render import ProgressBar

    assert ann2snn(*TINY, "-e", "0").code == 0
    pack = {path: path.read_bytes() for path in sorted((tiny / "tiny_snn_pack").rglob("*.*"))}
    names = {path.name for path in tiny.iterdir()}

    def advance(self, count=1):
        if self._part.label.startswith("record "):
            assert {path.name for path in tiny.iterdir()} > names, "something is half written"
            signal.raise_signal(signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ProgressBar, "advance", advance)
        assert ann2snn(*TINY, "-e", "0", "--seed", "5").code == 143
    assert {path.name for path in tiny.iterdir()} == names
    assert {path: path.read_bytes() for path in sorted((tiny / "tiny_snn_pack").rglob("*.*"))} == pack


def test_a_run_with_other_settings_cannot_be_resumed(tiny, ann2snn):
    """Half of one recipe and half of another is neither."""
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after_epoch(1, patch)
        assert ann2snn(*TINY, "-e", "3").code == 130
    done = ann2snn(*TINY, "-e", "3", "--weight_bitwidth", "2", "--resume")
    assert done.code == 1
    assert "other settings or weights" in done.err


def test_what_the_steps_will_take_is_said_before_they_are_taken(tiny, ann2snn, monkeypatch):
    """Samples, steps, time and memory; what does not fit the memory is refused with what does.

    At two delays 30 are scored, 90 corrected with and twice compared, and 64 measured.
    """
    done = ann2snn(*TINY, "-e", "0", "-T", "6", "--delay", "2")
    said = done.err.splitlines()
    place = next(
        i for i, line in enumerate(said) if line.startswith("728 samples to step, 6 steps each: about ")
    )
    assert said[place].endswith(" GB of memory")
    assert said.index("trace and fold") < place < said.index("calibrate")

    monkeypatch.setattr("ann2snn_cli.ir.memory.free_bytes", lambda device: 1_000_000)
    refused = ann2snn(*TINY, "-e", "0", "-T", "1000", "--save_file", "long.pth")
    assert refused.code == 2
    assert "1,000 steps of one sample need about" in refused.err
    assert "use --timesteps " in refused.err
    assert "calibrate" not in refused.err
    assert not (tiny / "long.pth").exists()


# Options -------------------------------------------------------------------------------------------


def test_an_earlier_result_is_replaced_and_the_users_files_stay(tiny, ann2snn):
    """The pack of two samples does not stay under that of one; what was removed and kept is said."""
    assert ann2snn(*TINY, "-e", "0").code == 0
    assert ann2snn("export", "tiny_snn.pth", "--format", "c", "--samples", "2").code == 0
    (tiny / "tiny_snn_pack/rtl_log.csv").write_text("mine")
    (tiny / ".tiny_snn.writing.killed").mkdir()  # of a run that was killed while it wrote
    assert len(real_samples(pack_of(tiny, "tiny"))) == 2
    done = ann2snn(*TINY, "-e", "0", "--vectors", "1", "--json")
    assert (tiny / "tiny_snn_pack/rtl_log.csv").read_text() == "mine"
    assert not (tiny / "tiny_snn_pack/c").exists()
    assert len(real_samples(pack_of(tiny, "tiny"))) == 1
    notes = done.document["notes"]
    (removed,) = [note for note in notes if note.startswith("removed from tiny_snn_pack/, of an earlier run")]
    assert all(f"{name}/ (" in removed for name in ("c", "expect", "stimulus"))
    assert "kept in tiny_snn_pack/, not written by ann2snn: rtl_log.csv" in notes
    assert "programs for the new SNN: ann2snn export SNN.pth --format c" in notes
    assert removed in done.err
    assert json.loads((tiny / "tiny_snn.json").read_text())["notes"] == notes
    assert not [path for path in tiny.iterdir() if path.name.startswith(".")]


def test_without_vectors_no_stale_pack_stays(tiny, ann2snn):
    """--vectors 0 after a run with vectors: it would belong to another network. The user's files stay."""
    assert ann2snn(*TINY, "-e", "0").code == 0
    (tiny / "tiny_snn_pack/rtl_log.csv").write_text("mine")
    document = ann2snn(*TINY, "-e", "0", "--weight_bitwidth", "2", "--vectors", "0", "--json").document
    assert not any("pack" in file["path"] for file in document["files"])
    assert not any("vector pack" in note for note in document["notes"])
    assert any(note.startswith("removed from tiny_snn_pack/") for note in document["notes"])
    assert [path.name for path in (tiny / "tiny_snn_pack").iterdir()] == ["rtl_log.csv"]


def test_a_conversion_killed_while_saving_is_finished_by_the_next_command(tiny, ann2snn, monkeypatch):
    """Never a new .pth beside old settings: whoever reads one of them first moves all to their places."""
    assert ann2snn(*TINY, "-e", "0").code == 0
    old = (tiny / "tiny_snn.pth").read_bytes()
    move_all = replacement._move_all
    killed = lambda ready: None if ready.name == ".tiny_snn.ready" else move_all(ready)  # noqa: E731
    monkeypatch.setattr(replacement, "_move_all", killed)
    assert ann2snn(*TINY, "-e", "0", "--weight_bitwidth", "2").code == 0
    assert (tiny / "tiny_snn.pth").read_bytes() == old
    monkeypatch.undo()
    monkeypatch.chdir(tiny)
    done = ann2snn("inspect", "tiny_snn.pth")
    said = "finished what a run that was killed had begun to save: tiny_snn.json, tiny_snn.pth, tiny_snn.yaml"
    assert said in done.err
    assert "weight_bitwidth: 2" in (tiny / "tiny_snn.yaml").read_text()
    assert torch.load(tiny / "tiny_snn.pth")["provenance"]["settings"]["quantize"]["weight_bitwidth"] == 2
    assert not [path for path in tiny.iterdir() if path.name.startswith(".")]
    assert ann2snn("verify", "tiny_snn_pack", "--backend", "numpy").code == 0


@pytest.mark.parametrize(
    ("words", "change", "note"),
    [
        (("--weight_bitwidth", "32"), ("", ""), "real numbers are left in 2 layers"),
        ((), ("nn.ReLU()", "nn.GELU()"), "real numbers are left in"),
    ],
)
def test_a_network_of_real_numbers_gets_no_pack_but_a_note(words, change, note, tiny, ann2snn):
    """Float weights, an operator without a spiking form: the report names the layers, the rest is written."""
    assert ann2snn(*TINY, "-e", "0").code == 0
    (tiny / "tiny.py").write_text((tiny / "tiny.py").read_text().replace(*change))
    done = ann2snn(*TINY, "-e", "0", *words, "--json")
    assert done.code == 0, done.err
    (said,) = [line for line in done.document["notes"] if line.startswith("no vector pack was written: ")]
    assert note in said
    assert said.endswith("(0, 4)" if words else "4)")
    assert not any("pack" in file["path"] for file in done.document["files"])
    assert not (tiny / "tiny_snn_pack").exists(), "that of the network before would stay"
    assert said in ann2snn(*TINY, "-e", "0", *words).out


def test_overwrite_replaces_what_is_not_ours(tiny, ann2snn):
    """When told."""
    (tiny / "tiny_snn.pth").write_text("mine")
    assert ann2snn(*TINY, "-e", "0").code == 1
    assert ann2snn(*TINY, "-e", "0", "--overwrite").code == 0
    assert pth.is_ours(tiny / "tiny_snn.pth")


@pytest.mark.parametrize(
    "words",
    [
        ("--weight_bitwidth", "32"),
        ("--channel_wise",),
        ("--reset_mode", "zero"),
        ("--schedule", "layerwise"),
        ("--delay", "3"),
        ("--delay", "16", "--schedule", "layerwise"),
        ("--engine", "reference"),
        ("--rounding", "bias"),
        ("--rounding", "none"),
        ("--pooling", "spiking"),
        ("--mode", "mse"),
        ("--mode", "0.5"),
        ("--no_batch_norm",),
        ("--calibration-samples", "8"),
        ("--weight-bitwidth", "1", "-T", "1"),
    ],
)
def test_every_option_converts(words, tiny, ann2snn):
    """A whole run each; reset to zero says that its layerwise accuracy means nothing."""
    document = ann2snn(*TINY, "-e", "0", *words, "--json").document
    assert document["test_samples"] == 30
    delay = 16 if "layerwise" in words else 3 if "3" in words else 0
    assert (document["delay"], document["schedule"]) == (delay, delay_name(delay, document["timesteps"]))
    assert document["engine"] in (["reference"] if "reference" in words else ENGINES)
    assert bool(document["layerwise_differs_from_quantized"]) <= ("zero" in words or "32" in words)
    assert any("reset to zero" in line for line in document["warnings"]) == ("zero" in words)


def test_one_table_has_the_scores_of_as_many_conversions(tiny, ann2snn):
    """Each delay has its own biases, the quantized network none for timing, whatever is written."""
    deep = (
        "nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2)"  # behind one population nothing is late
    )
    (tiny / "deep.py").write_text((tiny / "tiny.py").read_text().replace("nn.AvgPool2d(2)", deep))
    words = ("convert", "./deep.py", "--ann_weight", "none", "-e", "0", "-T", "4", "--vectors", "0", "--json")
    documents = {
        f"delay_{delay}" if delay == 2 else name: ann2snn(*words, "--delay", str(delay)).document
        for name, delay in (("stepwise", 0), ("layerwise", 4), ("delay_2", 2))
    }
    for written, document in documents.items():
        assert (document["written"], document["schedule"]) == (written, written)
        for variant in ("ann", "quantized", "stepwise", "layerwise"):
            assert document["scores"][variant] == documents["stepwise"]["scores"][variant], (written, variant)
        assert document["scores"]["quantized"] == document["scores"]["layerwise"]
        correction = document["bias_correction"][written]
        assert correction["delay"] == document["delay"]
        assert correction["kept"] == (correction["error_after"] < correction["error_before"])
    losses = {name: document["scores"][name]["loss"] for name, document in documents.items()}
    assert len(set(losses.values())) == 3


def test_the_text_says_which_network_is_written(tiny, ann2snn):
    """Its row, its delay, and what was done to its biases."""
    words = (*TINY, "-e", "0", "-T", "4", "--vectors", "0", "--delay", "2")
    said = ann2snn(*words).out
    assert "written: SNN delay 2, D = 2; the biases of each SNN are corrected for its own D" in said
    assert "note: bias correction for a delay of 2 " in said
    done = ann2snn(*words, "--no_bias_correction")
    assert "written: SNN delay 2, D = 2; no biases were corrected" in done.out
    assert "bias correction" not in done.out
    assert ann2snn(*words, "--no_bias_correction", "--json").document["bias_correction"] == {}


def test_reset_to_zero_is_warned_of_with_what_was_measured(tiny, ann2snn):
    """The figures of this network, in text, report and .pth; the layerwise difference is explained."""
    words = (*TINY, "-e", "0", "-T", "8", "--vectors", "0", "--reset_mode", "zero")
    document, text = ann2snn(*words, "--json").document, ann2snn(*words).out
    (warning,) = document["warnings"]
    scores = document["scores"]
    own, other = (  # the first that differs in what is shown: accuracies may be the same
        [f"accuracy {100 * scores[name]['accuracy']:.2f} %", f"loss {scores[name]['loss']:.4g}"]
        for name in ("stepwise", "quantized")
    )
    first = own[0] == other[0]
    assert own[first] != other[first]
    assert f"SNN stepwise: {own[first]}, where the quantized network has {other[first]}" in warning
    assert f"warning: {warning}" in text
    assert "use --reset_mode subtraction" in warning
    provenance = torch.load(tiny / "tiny_snn.pth", weights_only=True)["provenance"]
    assert warning in provenance["notes"]
    assert document["layerwise_differs_from_quantized"] == 30
    assert document["theorem_exception"].startswith("the quantized network is that of a reset by subtraction")
    assert "differ on 30 of 30 test samples, by up to " in text
    assert document["theorem_exception"] in text


def test_floats_that_differ_in_their_last_digits_are_explained(tiny, ann2snn):
    """`differs on ...` with the size of it, which is that of rounding, and its reason."""
    document = ann2snn(*TINY, "-e", "0", "--vectors", "0", "--weight_bitwidth", "32", "--json").document
    assert document["layerwise_largest_difference"] < 1e-6
    assert "weights are floats (--weight_bitwidth 32)" in document["theorem_exception"]


def test_latency_is_t_and_the_delay_of_every_layer_of_neurons(tiny, ann2snn):
    """Each population waits D steps, then the read-out takes T: in the report, by name, and in the table."""
    words = (*TINY, "-e", "0", "-T", "8", "--vectors", "0")
    document = ann2snn(*words, "--schedule", "layerwise", "--json").document
    assert document["latency_steps"] == 8 + 1 * 8
    done = ann2snn(*words, "--delay", "3", "--pooling", "spiking", "--json")
    document = done.document
    assert list(document["accuracy"]) == ["ann", "quantized", "stepwise", "layerwise", "delay_3"]
    steps = {name: each["latency_steps"] for name, each in document["latency"].items()}
    assert steps == {"stepwise": 8, "layerwise": 8 + 2 * 8, "delay_3": 8 + 2 * 3}
    assert document["latency_steps"] == 8 + 2 * 3
    assert document["latency"]["delay_3"]["steps_per_sample_single_buffered"] == 8 + 3
    lines = ann2snn(*words, "--delay", "3", "--pooling", "spiking").out.splitlines()
    (delayed,) = [line.split() for line in lines if line.startswith("SNN delay 3")]
    assert delayed[-2:] == ["3", "14"]


def test_the_snn_that_is_written_has_the_delay_that_was_asked_for(tiny, ann2snn):
    """The .pth, and the score of that delay, which another engine run of the file finds again."""
    document = ann2snn(*TINY, "-e", "0", "-T", "6", "--delay", "2", "--json").document
    graph, _ = pth.load(tiny / "tiny_snn.pth")
    assert graph.timing.delay == 2
    again = ann2snn("simulate", "tiny_snn.pth", "--json").document
    assert again["accuracy"]["delay_2"] == document["accuracy"]["delay_2"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--delay", "5", "--schedule", "layerwise"), "the delay is 5, and the schedule layerwise"),
        (("--delay", "9"), "the delay is 9; it must be a whole number from 0 to 8"),
        (("--engine", "fast"), "unknown engine 'fast'"),
        (("--allow", "nonsense"), "unknown hardware rule 'nonsense'"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_before_any_work(words, said, tiny, ann2snn):
    """In words, with what there is to choose from."""
    done = ann2snn(*TINY, "-T", "8", *words)
    assert done.code == 2
    assert f"error: {said}" in done.err
    assert "remedy: " in done.err
    assert "trace" not in done.err


def test_a_conversion_measures_its_own_damage(tiny, ann2snn):
    """In the report and the summary; above the limit a warning names the layer, and --strict exits with 3."""
    fine = ann2snn(*TINY, "-e", "0", "--weight_bitwidth", "8", "-T", "32", "--strict", "--json")
    assert fine.code == 0
    damage = fine.document["damage"]
    assert 0 < damage["quantized"] < 0.25
    assert (damage["limit"], damage["is_large"], damage["warning"], damage["layer"]) == (0.25, False, "", "")
    words = (*TINY, "-e", "0", "--weight_bitwidth", "1", "-T", "1", "--vectors", "0")
    done = ann2snn(*words, "--json")
    assert done.code == 0
    damage = done.document["damage"]
    assert damage["is_large"]
    assert damage["layer"] in ("1", "4")
    assert f"first at {damage['layer']}" in damage["warning"]
    assert (
        "try a larger --weight_bitwidth, --channel_wise, more --timesteps or another --mode"
        in damage["warning"]
    )
    strict = ann2snn(*words, "--strict")
    assert strict.code == 3
    assert f"warning: {damage['warning']}" in strict.out
    assert (tiny / "tiny_snn.pth").is_file()


def test_more_vectors_than_samples_are_all_of_them(tiny, ann2snn):
    """The test set has 30."""
    assert ann2snn(*TINY, "-e", "0", "--vectors", "99").code == 0
    with np.load(tiny / "tiny.npz") as data:
        labels = data["y_test"].tolist()
    assert len(labels) == 30
    assert [sample["label"] for sample in real_samples(pack_of(tiny, "tiny"))] == labels


def test_the_settings_of_a_config_are_taken_and_flags_come_on_top(tiny, ann2snn):
    """defaults < config < --set < flags."""
    (tiny / "my.yaml").write_text("network: ./tiny.py\nfinetune: {epochs: 0}\ntiming: {timesteps: 3}\n")
    document = ann2snn("convert", "--config", "my.yaml", "--json").document
    assert (document["network"], document["timesteps"]) == ("tiny", 3)
    assert ann2snn("convert", "--config", "my.yaml", "-T", "5", "--json").document["timesteps"] == 5


def test_hardware_that_is_broken_on_purpose_is_reported(tiny, ann2snn):
    """--allow RULE goes on, and the report still says what it does not fit, and why."""
    words = (*TINY, "-e", "0", "--hardware", "v1", "--weight_bitwidth", "5")
    refused = ann2snn(*words, "--json")
    assert refused.code == 3
    violations = refused.document["hardware"]["violations"]
    assert [(each["rule"], each["layer"], each["actual"], each["limit"]) for each in violations] == [
        ("weight_bitwidth", "0", 5, 4)
    ]
    assert not (tiny / "tiny_snn.pth").exists()
    done = ann2snn(*words, "--allow", "weight_bitwidth", "--json")
    assert done.code == 0
    assert (done.document["hardware"]["ok"], done.document["hardware"]["violations"]) == (True, [])
    assert [each["rule"] for each in done.document["hardware"]["allowed"]] == ["weight_bitwidth"]
    text = ann2snn(*words, "--allow", "weight_bitwidth").out
    assert "hardware v1: fits except for weight_bitwidth (0), which --allow lets pass" in text


def test_a_failure_while_writing_leaves_the_earlier_result(tiny, ann2snn, monkeypatch):
    """The disk is full: the old files stay whole, and nothing temporary lies about."""
    assert ann2snn(*TINY, "-e", "0").code == 0
    before = {path.name: path.read_bytes() for path in tiny.glob("tiny_snn*") if path.is_file()}
    monkeypatch.setattr("os.replace", _full_disk)
    done = ann2snn(*TINY, "-e", "0", "--weight_bitwidth", "2")
    assert done.code == 1
    assert "No space left" in done.err
    assert {path.name: path.read_bytes() for path in tiny.glob("tiny_snn*") if path.is_file()} == before
    assert not [path for path in tiny.iterdir() if path.name.startswith(".")]


def _full_disk(*words):
    raise OSError(28, "No space left on device", str(words[-1]))


@pytest.mark.parametrize("timesteps", [1, 3, 5, 7, 11])
def test_any_number_of_timesteps_keeps_the_theorem(timesteps, tiny, ann2snn):
    """Equal sums are equal values, also where a division by T must round."""
    document = ann2snn(*TINY, "-e", "0", "-T", str(timesteps), "--json").document
    assert document["layerwise_differs_from_quantized"] == 0


def test_a_damaged_state_of_finetuning_is_refused_with_a_remedy_that_helps(tiny, ann2snn):
    """Nobody can write it again: the run starts anew."""
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after_epoch(1, patch)
        assert ann2snn(*TINY, "-e", "3").code == 130
    (tiny / ".tiny_snn.finetuning").write_bytes(b"PK damaged")
    done = ann2snn(*TINY, "-e", "3", "--resume")
    assert done.code == 1
    assert "remedy: start anew with --overwrite and without --resume" in done.err
    assert ann2snn(*TINY, "-e", "1", "--overwrite").code == 0
