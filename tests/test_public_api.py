"""The Python API by name, and what its names promise."""

import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import ann2snn_cli
from ann2snn_cli import HardwareViolations, Settings, SpikingNetwork, UsageError
from ann2snn_cli.__main__ import main
from ann2snn_cli.config import KEYS, resolve
from ann2snn_cli.ir.contract import Contract, Reset, Rounding

# Random weights at few steps are far from the float network, and that is not what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore::ann2snn_cli.snn.DamageWarning")


@pytest.fixture
def network():
    """Two layers of neurons and a read-out."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(36, 8),
        nn.ReLU(),
        nn.Linear(8, 3),
    )


@pytest.fixture
def x():
    """Samples."""
    return torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def test_the_public_names_are_these():
    """Nobody adds or removes a public name without changing this list."""
    assert ann2snn_cli.__all__ == [
        "Ann2SnnError", "BadData", "BadFile", "BadWeights", "DamageWarning", "Hardware", "HardwareViolations",
        "InvalidGraph", "Provenance", "SNNTransformer", "Settings", "SpikingNetwork", "UnsupportedNetwork",
        "UsageError", "VerificationMismatch", "__version__", "convert", "fuse_batch_norms", "load",
        "quantize_and_finetune",
        "replace_activations", "set_weights_and_thresholds", "validate",
    ]  # fmt: skip
    assert dir(ann2snn_cli) == sorted(ann2snn_cli.__all__)
    assert all(hasattr(ann2snn_cli, name) for name in ann2snn_cli.__all__)
    with pytest.raises(AttributeError):
        ann2snn_cli.nothing  # noqa: B018 - the access is what is tested


def test_importing_the_package_does_not_import_torch():
    """The command line's --help must not wait for torch."""
    code = "import sys, ann2snn_cli; dir(ann2snn_cli); sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_many_bits_and_steps_come_near_the_float_network(network, x):
    """At 8 bits and 256 timesteps the SNN's outputs are the network's, to 2 % of the largest."""
    snn = ann2snn_cli.convert(network, x, weight_bitwidth=8, timesteps=256, mode="max", schedule="layerwise")

    wanted = network(x).detach()
    assert (snn(x) - wanted).abs().max() < 0.02 * wanted.abs().max()


def test_the_users_network_is_left_as_it_was(network, x):
    """Converting changes neither weights nor training mode."""
    network.train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    ann2snn_cli.convert(network, x, weight_bitwidth=2, timesteps=4)

    assert network.training
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_the_snn_is_a_module_that_prints_its_graph_and_keeps_integers(network, x):
    """print(snn) shows a line a node; `.double()` or `.half()` change no integer."""
    snn = ann2snn_cli.convert(
        network, (x, torch.zeros(20, dtype=torch.int64)), weight_bitwidth=3, timesteps=4
    )

    assert isinstance(snn, nn.Module)
    assert len(repr(snn).splitlines()) == 2 + len(snn.graph.nodes)
    wanted = snn(x)
    assert torch.equal(snn.half()(x), wanted)


def test_wrong_settings_and_broken_limits_are_named(network, x):
    """A setting that does not exist lists those that do; a chip's limits hold here as well."""
    with pytest.raises(UsageError, match=r"unknown setting 'bits'\n.*weight_bitwidth"):
        ann2snn_cli.convert(network, x, bits=4)
    with pytest.raises(
        HardwareViolations, match="weight_bitwidth is 8, the limit 4; weight_bitwidth=4 or fewer"
    ):
        ann2snn_cli.convert(network, x, weight_bitwidth=8, hardware="v1")


# The same settings mean the same from both sides ---------------------------------------------------


def training_free(**sections):
    """Settings without training, but for what is named: `timing={"timesteps": 4}`."""
    settings = Settings()
    for section, values in ({"finetune": {"epochs": 0}} | sections).items():
        settings = replace(settings, **{section: replace(getattr(settings, section), **values)})
    return settings


def test_the_hardware_of_the_settings_is_checked(network, x):
    """As argument, as flag or inside the settings: the limits are the same, and so is the pooling."""
    asked = training_free(check={"hardware": "v1"}, quantize={"weight_bitwidth": 8})
    for words in ({"settings": asked}, {"hardware": "v1", "weight_bitwidth": 8}):
        with pytest.raises(HardwareViolations, match="weight_bitwidth is 8, the limit 4"):
            ann2snn_cli.convert(network, x, **words)
    four = training_free(check={"hardware": "v1"}, timing={"timesteps": 4})
    snn = ann2snn_cli.convert(network, x, settings=four)
    assert any(node.name.endswith(".neurons") for node in snn.graph.nodes), "pooling of v1 is spiking"
    with pytest.raises(UsageError, match="the hardware is given twice"):
        ann2snn_cli.convert(network, x, settings=four, hardware="v1")


def test_every_setting_reaches_the_contract(network, x):
    """Timesteps, delay, reset and rounding, as flags and in settings; names and numbers of a delay alike."""
    asked = training_free(
        timing={"timesteps": 6, "delay": 2}, neurons={"reset_mode": "zero", "rounding": "bias"}
    )
    flags = {"timesteps": 6, "delay": 2, "reset_mode": "zero", "rounding": "bias"}
    snns = [ann2snn_cli.convert(network, x, settings=asked), ann2snn_cli.convert(network, x, **flags)]
    for snn in snns:
        assert snn.graph.timing == Contract(6, Reset.ZERO, 2, Rounding.BIAS)
    assert torch.equal(snns[0](x), snns[1](x))


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        ("save_file", "a.pth", "snn.save"),
        ("vectors", 3, "ann2snn export"),
        ("network", "lenet", "the network itself is given"),
        ("ann_weight", "w.pth", "given with its weights"),
        ("dataset", "digits", "the data themselves are given"),
        ("data_dir", "data", "the data themselves are given"),
        ("test_batch_size", 7, "nothing is tested"),
    ],
)
def test_a_setting_that_means_nothing_here_is_refused(network, x, flag, value, said):
    """As a flag and inside settings: what the command line does is not silently left undone."""
    key = next(key for key in KEYS.values() if key.flag == flag)
    settings = resolve(None, [], {"finetune.epochs": 0, key.dotted: value})
    given = {} if flag == "network" else {flag: value}  # `network` is the first argument already
    for words in (given or {"settings": settings}, {"settings": settings}):
        with pytest.raises(UsageError, match=f"{flag} means nothing here: .*{said}"):
            ann2snn_cli.convert(network, x, **words)


def test_words_that_do_not_exist_are_answered(network, x):
    """An engine, a hardware rule, a schedule: with what there is to choose from."""
    for words, said in (
        ({"engine": "refrence"}, "did you mean reference"),
        ({"allow": ["in_chanels"]}, "did you mean in_channels"),
        ({"schedule": "stepwize"}, "it must be auto, stepwise or layerwise"),
    ):
        with pytest.raises(UsageError, match=said):
            ann2snn_cli.convert(network, x, **words)
    snn = ann2snn_cli.convert(network, x, timesteps=4)
    with pytest.raises(UsageError, match="did you mean stepwise"):
        snn.simulate(x, schedule="stepwize")
    with pytest.raises(UsageError, match="the delay is 5"):
        snn.simulate(x, delay=5)
    with pytest.raises(UsageError, match="reference"):
        snn.simulate(x, engine="refrence")


def test_a_setting_that_does_not_exist_is_answered_with_those_that_mean_something_here(network, x):
    """Not with what only the command line takes."""
    with pytest.raises(UsageError, match="unknown setting 'timestep'") as caught:
        ann2snn_cli.convert(network, x, timestep=4)
    choices = caught.value.remedy.partition("choose from: ")[2].split(", ")
    assert "timesteps" in choices
    assert {"network", "dataset", "save_file", "vectors", "ann_weight"}.isdisjoint(choices)


@pytest.mark.parametrize("given", [None, io.BytesIO()], ids=["None", "BytesIO"])
def test_what_is_no_path_is_refused_in_words(given, network, x):
    """By save and by load, with what they take."""
    snn = ann2snn_cli.convert(network, x, timesteps=4)
    for use in (snn.save, ann2snn_cli.load):
        with pytest.raises(UsageError, match="the path is ") as caught:
            use(given)
        assert "pathlib.Path" in caught.value.remedy


@pytest.mark.parametrize("four", [4, "4", 4.0, "4.0", np.int64(4), np.float32(4), torch.tensor(4)])
def test_a_number_means_the_same_however_it_is_written(four, network, x):
    """Text, a whole float, a number of numpy's or torch's: in a conversion and in a simulation."""
    snn = ann2snn_cli.convert(network, x, weight_bitwidth=four, timesteps=four, channel_wise=np.bool_(True))
    assert snn.provenance.settings["quantize"]["weight_bitwidth"] == 4
    assert torch.equal(snn.simulate(x, delay=four).outputs[0], snn.simulate(x, delay=4).outputs[0])


@pytest.mark.parametrize(
    ("mode", "text"), [(0.5, "0.5"), (1, "1.0"), (np.float64(0.25), "0.25"), (1e-5, "0.00001")]
)
def test_a_factor_of_the_maximum_is_a_number_or_its_text(mode, text):
    """Both sides of the API keep it as text."""
    assert resolve(None, [], {"calibrate.mode": mode}).calibrate.mode == text
    assert Settings(calibrate=replace(Settings().calibrate, mode=mode)).calibrate.mode == text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"weight_bitwidth": 4.5}, "weight_bitwidth is 4.5; it must be 1 to 8"),
        ({"weight_bitwidth": True}, "weight_bitwidth is True; it must be 1 to 8"),
        ({"timesteps": float("inf")}, "timesteps is inf; it must be a whole number"),
        ({"mode": "4/3"}, "mode is 4/3; .*\n.*give 99.9%, max, mse, 0.5, spikes or match"),
        ({"mode": True}, "mode is True; .*\n.*give 99.9%, max, mse, 0.5, spikes or match"),
        ({"mode": None}, "mode has no value; .*\n.*give 99.9%, max, mse, 0.5, spikes or match"),
        ({"mode": 99.9}, "mode is 99.9; .*\n.*did you mean 99.9%"),
        ({"schedule": "Layerwise"}, "schedule is Layerwise; .*\n.*did you mean layerwise"),
        ({"reset_mode": 1}, "reset_mode is 1; .*\n.*give subtraction or zero"),
        ({"device": "gpu"}, "unknown device 'gpu'.*\n.*use auto, cpu"),
        ({"settings": {}}, "the settings are of type dict\n.*weight_bitwidth=4"),
    ],
)
def test_a_value_of_another_kind_is_refused_with_those_there_are(words, said, network, x):
    """Nothing is guessed, and nothing is taken for another cause."""
    with pytest.raises(UsageError, match=said):
        ann2snn_cli.convert(network, x, **words)


def test_a_delay_of_another_kind_is_refused(network, x):
    """In a simulation by the same rules as in a conversion."""
    snn = ann2snn_cli.convert(network, x, timesteps=4)
    for delay in ("two", 1.5, True):
        with pytest.raises(UsageError, match=f"timing.delay is {delay}; it must be a whole number"):
            snn.simulate(x, delay=delay)


def test_a_simulation_gives_what_is_asked_for(network, x):
    """Outputs at any delay, by name or number; by step; counts of spikes; trains and potentials."""
    snn = ann2snn_cli.convert(network, x, timesteps=4, delay=1)
    assert torch.equal(snn.simulate(x).outputs[0], snn(x))
    assert torch.equal(snn.simulate(x, schedule="layerwise").outputs[0], snn.simulate(x, delay=4).outputs[0])
    seen = {}
    found = snn.simulate(
        x, by_step=True, counts=True, potentials=True, watch=lambda node, act: seen.update({node.name: act})
    )
    assert found.by_step[0].shape == (4, 20, 3)
    assert torch.equal(found.by_step[0][-1], found.outputs[0])
    assert all(torch.equal(act.train.sum(0), found.counts[name]) for name, act in seen.items())
    assert all(act.potentials is not None for act in seen.values())
    with pytest.raises(TypeError, match="watch is a function of a node and its activity, not a list"):
        snn.simulate(x, watch=["relu"])


@pytest.mark.parametrize("form", [torch.Tensor.numpy, torch.Tensor.tolist, lambda x: x.double().numpy()])
def test_an_snn_takes_samples_in_every_form_that_convert_takes(form, network, x):
    """A numpy array or nested lists of numbers give the same outputs as the tensor, from both sides."""
    snn = ann2snn_cli.convert(network, x, timesteps=4)
    wanted = snn(x)

    assert torch.equal(snn(form(x)), wanted)
    assert torch.equal(snn.simulate(form(x)).outputs[0], wanted)
    assert torch.equal(ann2snn_cli.convert(network, form(x), timesteps=4)(x), wanted)


def test_bytes_in_an_array_mean_what_they_mean_in_a_tensor(network, x):
    """Fractions of 255."""
    snn = ann2snn_cli.convert(network, x, timesteps=4)
    images = (255 * x).to(torch.uint8)
    assert torch.equal(snn(images.numpy()), snn(images.float() / 255))


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_samples_that_are_no_numbers_are_refused_by_their_index(value, network, x):
    """In a call, in a simulation, and in the data of a conversion."""
    snn = ann2snn_cli.convert(network, x, timesteps=4)
    x[3, 0, 0, 0] = x[7] = value
    for use in (snn, snn.simulate, lambda x: ann2snn_cli.convert(network, x)):
        with pytest.raises(ann2snn_cli.BadData, match=r"in 2 of 20 samples, first in x\[3\]") as caught:
            use(x)
        assert "nan_to_num" in caught.value.remedy


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: x[0], r"\(1, 8, 8\), and not \[samples, 1, 8, 8\]\n.*x\[None\]"),
        (lambda x: x.permute(0, 2, 3, 1), r"\(20, 8, 8, 1\).*\n.*x\.permute\(0, 3, 1, 2\)"),
        (lambda x: x[:, 0], r"\(20, 8, 8\).*\n.*x\.reshape\(-1, 1, 8, 8\)"),
        (lambda x: x[..., 1:], r"\(20, 1, 8, 7\).*\n.*the shape that the network was converted for"),
        (lambda x: (255 * x).long(), "x is int64"),
        (lambda x: None, "x is None\n.*a numpy array"),
        (lambda x: {"photo": x}, "takes the inputs input, there are samples for photo"),
    ],
)
def test_samples_that_an_snn_cannot_take_get_a_remedy(change, said, network, x):
    """What was given, what is expected, and what to write."""
    snn = ann2snn_cli.convert(network, x, timesteps=4)
    for use in (snn, snn.simulate):
        with pytest.raises(ann2snn_cli.Ann2SnnError, match=said) as caught:
            use(change(x))
        assert not isinstance(caught.value, ann2snn_cli.InvalidGraph)
    with pytest.raises(UsageError, match="takes the inputs input, each once"):
        snn()


def test_samples_without_labels_are_not_trained_on(network, x):
    """There is nothing to learn from them; labels or no epochs."""
    with pytest.raises(UsageError, match="without labels"):
        ann2snn_cli.convert(network, x, finetune_epochs=1)
    labels = torch.arange(20) % 3
    ann2snn_cli.convert(network, (x, labels), finetune_epochs=1, timesteps=16)


def test_a_conversion_that_damages_the_network_warns(network, x):
    """Naming the first layer, and what to try in the words of Python; the numbers are kept."""
    with pytest.warns(
        ann2snn_cli.DamageWarning, match="first at .*: try a larger weight_bitwidth, channel_wise=True"
    ):
        snn = ann2snn_cli.convert(network, x, weight_bitwidth=1, timesteps=1)
    assert snn.provenance.damage["snn"] > 0.25
    assert ann2snn_cli.convert(network, x, weight_bitwidth=8, timesteps=64).provenance.damage["snn"] < 0.25


def test_the_type_hints_are_shipped():
    """A marker that mypy looks for in an installed package."""
    assert (Path(ann2snn_cli.__file__).parent / "py.typed").is_file()


# Files of one side on the other --------------------------------------------------------------------


@pytest.fixture
def saved(network, x, tmp_path, monkeypatch):
    """A .pth that `SpikingNetwork.save` wrote, in the working directory, beside data it can be tested on."""
    monkeypatch.chdir(tmp_path)
    snn = ann2snn_cli.convert(network, x, weight_bitwidth=4, timesteps=4)
    np.savez("data.npz", x=x.numpy(), y=np.arange(20) % 3)
    return snn, snn.save("mine.pth")


def test_what_python_saves_the_command_line_runs(saved, x, capsys):
    """simulate, export, verify and inspect; the data, which the file cannot name, by flag."""
    _, path = saved
    for words in (
        ["simulate", str(path)],
        ["export", str(path), "--samples", "1"],
        ["verify", str(path), "--backend", "numpy", "--samples", "1"],
    ):
        assert main([*words, "--dataset", "npz:data.npz", "--json"]) == 0
        capsys.readouterr()
        assert main(words) == 2
        error = capsys.readouterr().err
        assert "the file names no dataset" in error
        assert "remedy: give the data it was made for: --dataset NAME" in error
    manifest = json.loads(Path("mine_pack/manifest.json").read_text())
    assert (manifest["network"], manifest["dataset"]) == ("Sequential", "npz:data.npz")
    assert main(["inspect", str(path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["provenance"]["settings"]["quantize"]["weight_bitwidth"] == 4


def test_a_bare_graph_can_be_saved_and_exported(saved, capsys):
    """Nothing at all is known of where it comes from."""
    snn, _ = saved
    SpikingNetwork(snn.graph).save("bare.pth")
    assert ann2snn_cli.load("bare.pth").provenance == ann2snn_cli.Provenance()
    assert main(["export", "bare.pth", "--samples", "1", "--dataset", "npz:data.npz"]) == 0
    assert main(["verify", "bare_pack", "--backend", "numpy"]) == 0


def test_a_folder_as_the_path_is_refused_with_the_argument_that_names_it(saved, tmp_path):
    """What is to be done is said in the words of `save`, not of the command line or of `convert`."""
    with pytest.raises(ann2snn_cli.BadFile, match="a folder of that name") as caught:
        saved[0].save(tmp_path)
    assert "another place with path" in str(caught.value)
    assert "save_file" not in str(caught.value)


def test_a_place_where_nothing_can_be_written_is_refused_in_words(saved, tmp_path):
    """A folder inside a file, which no permission makes writable."""
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ann2snn_cli.BadFile, match="results cannot be written there") as caught:
        saved[0].save(tmp_path / "file" / "x.pth")
    assert "writing" not in str(caught.value), "the name of a temporary file"


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_bias_that_is_no_number_is_refused(bad, network, x):
    """Of the last layer too, behind which nothing is looked at."""
    with torch.no_grad():
        network[-1].bias[0] = bad
    with pytest.raises(ann2snn_cli.BadWeights, match="not a finite number"):
        ann2snn_cli.convert(network, x, timesteps=4)


def test_a_network_whose_outputs_overflow_is_refused(network, x):
    """Each activation is still a number."""
    with torch.no_grad():
        network[0].weight.mul_(1e20)
        network[-1].weight.mul_(1e25)
    with pytest.raises(ann2snn_cli.BadWeights, match="an output of the network is not a finite number"):
        ann2snn_cli.convert(network, x, timesteps=4)


def test_an_engine_that_does_not_exist_is_refused_as_on_the_command_line(saved, x):
    """One wording for one mistake, and all that may be chosen."""
    with pytest.raises(UsageError, match="unknown engine 'fast'") as caught:
        saved[0].simulate(x, engine="fast")
    assert "reference" in caught.value.remedy


def test_the_provenance_survives_saving(saved):
    """Settings, notes, damage, tool."""
    snn, path = saved
    loaded = ann2snn_cli.load(path)
    assert loaded.provenance == snn.provenance
    assert loaded.provenance.tool.startswith("ann2snn ")
    assert loaded.provenance.settings["timing"]["timesteps"] == 4


def test_an_snn_is_not_converted_again():
    """What is an SNN already is refused in words."""
    network, x = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU()), torch.rand(8, 3)
    snn = ann2snn_cli.convert(network, x)
    with pytest.raises(ann2snn_cli.UsageError, match="is an SNN already"):
        ann2snn_cli.convert(snn, x)
