"""Every mistake that needs no compute to be seen is refused before any: nothing is trained or calibrated."""

import pytest

from ann2snn_cli.commands.flags import in_flags
from ann2snn_cli.stages.export.replacement import as_manifest

CONVERT = ("convert", "./tiny.py", "--batch_size", "16")
ANALYSE = ("analyse-error", "./tiny.py", "--batch_size", "16")
TRAIN = ("train", "./tiny.py", "--epochs", "1")
EXPORT = ("export", "tiny_snn.pth")
SIMULATE = ("simulate", "tiny_snn.pth")

WORK = (
    "ann2snn_cli.pipeline.calibrate",
    "ann2snn_cli.pipeline.finetune",
    "ann2snn_cli.stages.train.train",
    "ann2snn_cli.stages.simulate.run",
    "ann2snn_cli.workflows.convert.evaluate",
    "ann2snn_cli.workflows.simulate.evaluate",
    "ann2snn_cli.workflows.pack.simulate",
)

MISTAKES = {
    "a hardware file with a wrong limit": (
        (CONVERT, ANALYSE), ("--hardware", "./bad.yaml"), 2, "threshold_bits is -3",
    ),
    "one threshold a channel, and the chip has one a layer": (
        (CONVERT, ANALYSE), ("--hardware", "v1", "--channel_wise"), 3, "channel_wise_threshold",
    ),
    "wider weights than the chip's": (
        (CONVERT, ANALYSE), ("--hardware", "v1", "--weight_bitwidth", "8"), 3, "weight_bitwidth is 8",
    ),
    "pooling that the chip has not": (
        (CONVERT, ANALYSE), ("--hardware", "v1", "--pooling", "sum"), 3, "pooling",
    ),
    "floats in a register": (
        (CONVERT, ANALYSE), ("--hardware", "./wide.yaml", "--weight_bitwidth", "32"), 3, "real numbers",
    ),
    "a rule of hardware that does not exist": (
        (CONVERT, ANALYSE), ("--allow", "in_chanels"), 2, "unknown hardware rule 'in_chanels'",
    ),
    "a folder that cannot be written to": (
        (CONVERT, TRAIN), ("--save_file", "shut/a.pth"), 1, "results cannot be written there",
    ),
    "a folder for pictures that cannot be written to": (
        (ANALYSE,), ("--save_dir", "shut/a"), 1, "results cannot be written there",
    ),
    "a file system that takes no files": (
        (CONVERT, TRAIN), ("--save_file", "/proc/a.pth"), 1, "where: /proc\n",
    ),
    "a file system that takes no files, as a folder": (
        (EXPORT,), ("--save_dir", "/proc"), 1, "where: /proc\n",
    ),
    "a file where the pack has a folder": (
        (CONVERT,), ("--save_file", "own_snn.pth", "--overwrite"), 1, "where: own_snn_pack/weights\n",
    ),
    "a file where the exported pack has a folder": (
        (EXPORT,), ("--save_dir", "own", "--format", "verilog", "--overwrite"), 1,
        "where: own/tiny_snn_pack/verilog\n",
    ),
    "a foreign file in the way": (
        (CONVERT, TRAIN), ("--save_file", "mine.pth"), 1, "was not written by ann2snn",
    ),
    "a name that is no file of an SNN": ((CONVERT,), ("--save_file", "a.txt"), 2, "does not end in .pth"),
    "settings that the user changed in the way": (
        (CONVERT,), ("--save_file", "changed.pth"), 1, "changed since ann2snn wrote it",
    ),
    "an analysis that the user changed in the way": (
        (ANALYSE,), ("--save_dir", "changed"), 1, "changed since ann2snn wrote them: layers.csv",
    ),
    "a pack that the user changed in the way": (
        (EXPORT,), ("--save_dir", "changed"), 1, "changed since ann2snn wrote them: layers.csv",
    ),
    "a file of rules that does not load": ((CONVERT, ANALYSE), ("--rules", "./bad.py"), 2, "bad.py"),
    "a delay above T": ((CONVERT, ANALYSE), ("-T", "4", "--delay", "5"), 2, "the delay is 5"),
    "a delay above the T of the file": ((EXPORT, SIMULATE), ("--delay", "5"), 2, "the delay is 5"),
    "a delay and a schedule that contradict each other": (
        (CONVERT, ANALYSE, EXPORT, SIMULATE), ("--delay", "2", "--schedule", "layerwise"), 2,
        "the schedule layerwise",
    ),
    "an engine that does not exist": (
        (CONVERT, ANALYSE, SIMULATE), ("--engine", "fast"), 2, "unknown engine 'fast'",
    ),
    "a format that cannot say the network, named last": (
        (EXPORT,), ("--format", "pack", "--format", "nir"), 1, "NIR cannot say all of its layers",
    ),
    "a layer to record that does not exist": (
        (EXPORT,), ("--layers", "nonsense"), 2, "nonsense",
    ),
    "a foreign file where the second format goes": (
        (EXPORT,), ("--format", "pack", "--format", "onnx"), 1, "was not written by ann2snn",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def snn(trained, tmp_path_factory, ann2snn, in_folder):
    """An SNN that NIR has no word for: it pools maxima."""
    path = tmp_path_factory.mktemp("snn") / "tiny_snn.pth"
    (trained / "maxima.py").write_text((trained / "tiny.py").read_text().replace("AvgPool2d", "MaxPool2d"))
    with in_folder(trained):
        words = ("-e", "0", "-T", "4", "--vectors", "0", "--ann_weight", "none", "--save_file", str(path))
        done = ann2snn("convert", "./maxima.py", "--batch_size", "16", *words)
    assert done.code == 0, done.err
    return path


@pytest.mark.parametrize(
    ("command", "words", "code", "said"),
    [
        pytest.param(command, *rest, id=f"{command[0]}: {mistake}")
        for mistake, (commands, *rest) in MISTAKES.items()
        for command in commands
    ],
)
def test_a_mistake_is_refused_before_any_work(command, words, code, said, snn, tiny, ann2snn, monkeypatch):
    """The error arrives, in words, and neither training nor calibration nor simulation has begun."""
    (tiny / "tiny_snn.pth").write_bytes(snn.read_bytes())
    (tiny / "tiny_snn.onnx").write_text("mine")
    (tiny / "mine.pth").write_text("mine")
    for place in ("own_snn_pack/weights", "own/tiny_snn_pack/verilog"):
        (tiny / place).parent.mkdir(parents=True)
        (tiny / place).write_text("mine")
    (tiny / "shut").write_text("a file")
    (tiny / "bad.py").write_text("RULES = nonsense")
    (tiny / "bad.yaml").write_text("threshold_bits: -3")
    (tiny / "wide.yaml").write_text("potential_bits: 60")
    (tiny / "changed.yaml").write_text("# ann2snn settings: ... and what the user wrote")
    for folder in (tiny / "changed", tiny / "changed/tiny_snn_pack"):
        folder.mkdir()
        (folder / "layers.csv").write_text("ours")
        (folder / "manifest.json").write_bytes(as_manifest(folder, {"schema": "ann2snn/test/1"}))
        (folder / "layers.csv").write_text("mine")
    before = sorted(path.name for path in tiny.iterdir())
    begun = []
    for place in WORK:
        monkeypatch.setattr(place, lambda *given, place=place, **named: begun.append(place))

    done = ann2snn(*command, *words)

    assert (begun, done.code) == ([], code), done.err
    assert said in in_flags(done.err)
    assert sorted(path.name for path in tiny.iterdir() if path.name != "__pycache__") == [
        name for name in before if name != "__pycache__"
    ]
