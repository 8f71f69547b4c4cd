"""Settings: where they come from, which wins, what is refused and in what words; and hardware files."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ann2snn_cli import config
from ann2snn_cli.commands.flags import in_flags
from ann2snn_cli.config import (
    KEYS,
    Hardware,
    Neurons,
    Schedule,
    Settings,
    Timing,
    as_dict,
    delay_name,
    load_hardware,
    parse_mode,
    resolve,
    to_yaml,
)
from ann2snn_cli.config.kinds import KINDS
from ann2snn_cli.errors import BadFile, UsageError
from ann2snn_cli.ir.contract import Pooling, Reset, Rounding

CONFIGS = Path(__file__).parents[1] / "configs"


@pytest.fixture
def yaml_file(tmp_path):
    """Write a YAML file, give its path."""

    def write(text: str) -> Path:
        path = tmp_path / "my.yaml"
        path.write_text(text)
        return path

    return write


def test_without_a_word_every_setting_has_its_default():
    """The defaults are those of the origin tool: 4 bits, 16 steps, the 99.9th percentile."""
    settings = resolve()
    assert settings == Settings()
    assert (settings.quantize.weight_bitwidth, settings.timing.timesteps) == (4, 16)
    assert (settings.calibrate.mode, settings.finetune.epochs, settings.finetune.lr) == ("99.9%", 5, 0.005)
    assert (settings.finetune.momentum, settings.finetune.wd, settings.check.hardware) == (0.9, 5e-4, "auto")


def test_flags_beat_set_which_beats_the_file_which_beats_the_defaults(yaml_file):
    """Precedence: defaults < config file < --set < flags."""
    path = yaml_file("timing: {timesteps: 2, schedule: layerwise}\nneurons: {rounding: bias}\n")
    settings = resolve(path, ["timing.timesteps=3", "neurons.rounding=none"], {"timing.timesteps": 4})
    assert settings.timing == Timing(timesteps=4, schedule=Schedule.LAYERWISE)
    assert settings.neurons == Neurons(rounding=Rounding.NONE)


@pytest.mark.parametrize(
    ("file", "words", "flags", "delay"),
    [
        ("{}", [], {}, 0),
        ("{schedule: layerwise}", [], {}, 8),
        ("{schedule: layerwise, delay: 8}", [], {}, 8),
        ("{schedule: layerwise}", ["timing.delay=3"], {}, 3),  # the stronger source, not a contradiction
        ("{delay: 3}", ["timing.schedule=layerwise"], {}, 8),
        ("{delay: 3}", ["timing.schedule=layerwise"], {"timing.delay": 0}, 0),
        ("{schedule: auto, delay: null}", [], {"timing.schedule": "stepwise"}, 0),
    ],
)
def test_a_delay_has_a_number_and_two_names(yaml_file, file, words, flags, delay):
    """stepwise is 0, layerwise is T; whichever of the two the strongest source gives counts."""
    settings = resolve(yaml_file(f"timing: {file}\n"), words, {"timing.timesteps": 8} | flags)
    assert settings.timing.firing_delay == delay


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"delay": 3, "schedule": "layerwise"},
            "the delay is 3, and the schedule layerwise, which is a delay",
        ),
        (
            {"delay": 3, "schedule": "stepwise"},
            "the delay is 3, and the schedule stepwise, which is a delay of 0",
        ),
        ({"delay": 9}, "the delay is 9; it must be a whole number from 0 to 8"),
    ],
)
def test_a_delay_that_cannot_be_is_refused(values, said):
    """A name and a number that contradict each other, or more steps than a sample is shown."""
    flags = {f"timing.{name}": value for name, value in values.items()}
    with pytest.raises(UsageError) as refused:
        resolve(None, [], {"timing.timesteps": 8} | flags)
    assert refused.value.what.startswith(said)
    assert refused.value.remedy


@pytest.mark.parametrize(
    ("steps", "delay", "name"), [(8, 0, "stepwise"), (8, 8, "layerwise"), (8, 3, "delay_3")]
)
def test_a_delay_is_called_by_its_name(steps, delay, name):
    """In reports."""
    assert delay_name(delay, steps) == name


def test_words_become_modes():
    """Text from anywhere, and the members themselves, give the same members."""
    given = resolve(None, ["neurons.reset_mode=zero"], {"neurons.pooling": "spiking"}).neurons
    assert given == Neurons(reset_mode="zero", pooling=Pooling.SPIKING)
    assert (given.reset_mode, given.rounding, given.pooling) == (
        Reset.ZERO,
        Rounding.POTENTIAL,
        Pooling.SPIKING,
    )
    assert resolve(None, [], {"neurons.pooling": "auto"}).neurons.pooling is None


def test_later_words_beat_earlier_ones():
    """Of two --set for one setting the last counts."""
    assert resolve(None, ["run.seed=1", "run.seed=2"]).run.seed == 2


@pytest.mark.parametrize(
    ("line", "dotted", "value"),
    [
        ("finetune: {lr: 1e-4}", "finetune.lr", 1e-4),  # PyYAML: the text "1e-4"
        ("finetune: {lr: 1}", "finetune.lr", 1.0),
        ("data: {data_dir: no}", "data.data_dir", "no"),  # PyYAML: False
        ("data: {dataset: 12:30}", "data.dataset", "12:30"),  # PyYAML: 750
        ("timing: {timesteps: 010}", "timing.timesteps", 10),  # PyYAML: 8
        ("fold: {batch_norm: off}", "fold.batch_norm", False),
        ("calibrate: {mode: 0.5}", "calibrate.mode", "0.5"),  # PyYAML: a float
        ("calibrate: {mode: 99.9%}", "calibrate.mode", "99.9%"),
        ("check: {allow: [a, 'b']}", "check.allow", ("a", "b")),
        ("check: {allow: a}", "check.allow", ("a",)),
        ("quantize: {weight-bitwidth: '3'}", "quantize.weight_bitwidth", 3),
        ("network: 'null'", "network", "null"),
    ],
)
def test_a_scalar_is_read_as_its_field_declares(yaml_file, line, dotted, value):
    """What the author wrote is read by the field's type, not by YAML's guesses."""
    settings = resolve(yaml_file(line + "\n"))
    found = settings
    for name in dotted.split("."):
        found = getattr(found, name)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("word", "must_be"),
    [
        ("timing.timesteps=0", "from 1 to 65536"),
        ("timing.timesteps=65537", "from 1 to 65536"),
        ("data.batch_size=2147483648", "at most 2147483647"),
        ("timing.timesteps=12:30", "a whole number"),
        ("timing.timesteps=1.5", "a whole number"),
        ("timing.timesteps=1_0", "a whole number"),
        ("timing.timesteps=", "a whole number"),
        ("neurons.reset_mode=hard", "subtraction or zero"),
        ("neurons.rounding=up", "potential, bias or none"),
        ("timing.schedule=both", "auto, stepwise or layerwise"),
        ("timing.delay=-1", "0 or more"),
        ("timing.delay=half", "a whole number"),
        ("neurons.pooling=max", "auto, sum or spiking"),
        ("quantize.weight_bitwidth=9", "1 to 8 bits, or 32"),
        ("quantize.weight_bitwidth=0", "1 to 8 bits, or 32"),
        ("quantize.channel_wise=2", "true or false"),
        ("calibrate.mode=0%", "percentile"),
        ("calibrate.mode=101%", "percentile"),
        ("calibrate.mode=0", "factor"),
        ("calibrate.mode=1.5", "factor"),
        ("calibrate.mode=mean", "mse"),
        ("calibrate.mode=1/0", "factor"),
        ("calibrate.mode=3/2", "factor"),
        ("calibrate.mode=spikes:", "spikes"),
        ("calibrate.mode=spikes:0.9", "spikes"),
        ("finetune.lr=0", "above 0"),
        ("finetune.lr=nan", "above 0"),
        ("finetune.lr=1e999", "above 0"),
        ("finetune.lr=fast", "above 0"),
        ("finetune.momentum=1", "not, 1"),
        ("finetune.wd=-1", "0 or more"),
        ("finetune.epochs=-1", "0 or more"),
        ("data.num_workers=-1", "0 or more"),
        ("data.batch_size=0", "1 or more"),
        ("data.test_batch_size=0", "1 or more"),
        ("data.calibration_samples=0", "1 or more"),
        ("run.seed=-1", "from 0"),
        ("run.seed=4294967296", "4294967295"),
        ("run.device=gpu", "cuda:N"),
        ("check.hardware=", "none"),
        ("save.vectors=-1", "0 or more"),
    ],
)
def test_a_value_out_of_its_range_is_refused(word, must_be):
    """The error names the setting, the value, what it must be, and the word it stood in."""
    with pytest.raises(UsageError) as refused:
        resolve(None, [word])
    assert refused.value.what.startswith(word.partition("=")[0])
    assert must_be in refused.value.what
    assert in_flags(refused.value.where) == f"--set {word}"
    assert refused.value.remedy


@pytest.mark.parametrize(
    ("dotted", "values"),
    [
        ("quantize.weight_bitwidth", ["1", "8", "32"]),
        ("calibrate.mode", ["100%", "0.01%", "1", "1.0", ".5", "max", "mse"]),
        ("run.device", ["cpu", "cuda", "cuda:3", "auto"]),
        ("run.seed", ["0", "4294967295"]),
        ("finetune.momentum", ["0", "0.99"]),
    ],
)
def test_the_ends_of_a_range_are_allowed(dotted, values):
    """A limit belongs to its range."""
    for value in values:
        resolve(None, [f"{dotted}={value}"])


def test_a_python_value_of_the_wrong_type_is_refused():
    """True is no whole number, and the Python interface says so too."""
    with pytest.raises(UsageError, match="weight_bitwidth is True"):
        resolve(None, [], {"quantize.weight_bitwidth": True})
    with pytest.raises(UsageError, match="timesteps is 0"):
        Timing(timesteps=0)
    with pytest.raises(UsageError, match="timesteps is 0"):
        replace(Timing(), timesteps=0)


def test_all_mistakes_come_at_once_with_their_lines(yaml_file):
    """One error lists those of the file, of --set and of the flags, each with its place."""
    path = yaml_file("quantize:\n  weight_bitwidth: 9\ntiming:\n  timestep: 4\n")
    with pytest.raises(UsageError) as refused:
        resolve(path, ["finetune.lr=-1"], {"calibrate.mode": "best"})
    what = refused.value.what
    assert what.startswith("4 settings are wrong")
    assert f"[{path}:2]" in what
    assert f"[{path}:4]; did you mean timing.timesteps?" in what
    assert "[--set finetune.lr=-1]" in in_flags(what)
    assert "[mode]" in str(refused.value)


@pytest.mark.parametrize(
    ("dotted", "nearest"),
    [
        ("timing.timestep", "timing.timesteps"),
        ("timesteps", "timing.timesteps"),  # right word, no section
        ("quantize.timesteps", "timing.timesteps"),  # right word, wrong section
        ("data.batch_norm", "fold.batch_norm"),  # even where its own section has something like it
        ("finetune.network", "network"),
        ("finetune.finetune_lr", "finetune.lr"),  # the flag's name
        ("quantise.weight_bitwidth", "quantize.weight_bitwidth"),
        ("quantise", "quantize"),
        ("networks", "network"),
    ],
)
def test_an_unknown_setting_is_refused_with_the_nearest(dotted, nearest):
    """The name that was probably meant is the remedy."""
    with pytest.raises(UsageError) as refused:
        resolve(None, [f"{dotted}=4"])
    assert refused.value.what == f"{dotted} is not a setting"
    assert refused.value.remedy.startswith(f"did you mean {nearest}?")


def test_an_unknown_setting_with_nothing_near_lists_what_there_is():
    """Within a section its settings are listed, else the sections."""
    with pytest.raises(UsageError) as refused:
        resolve(None, ["fold.xyz=1"])
    assert refused.value.remedy == "known here: fold.batch_norm"
    with pytest.raises(UsageError) as refused:
        resolve(None, ["xyzxyz=1"])
    assert "quantize" in refused.value.remedy


@pytest.mark.parametrize(
    ("text", "complaint", "line"),
    [
        ("timing: 16\n", "timing is a section", 1),
        ("timing:\n  timesteps: 4\n  timesteps: 8\n", "timing.timesteps is given twice", 3),
        ("timing:\n  timesteps:\n", "timing.timesteps has no value", 2),
        ("timing:\n  timesteps: [1, 2]\n", "a whole number", 2),
        ("timing:\n  timesteps: {a: 1}\n", "a whole number", 2),
        ("check:\n  allow: [[a]]\n", "a list of words", 2),
        ("network: example_net\n---\nnetwork: lenet\n", "not a YAML file", 2),
        ("timing:\n  timesteps: 4\n bad\n", "not a YAML file", None),
        ("a: &a [*a]\n", "not a setting", 1),
        ("a: " + "[" * 5000, "nested too deeply", None),
        ("- a\n- b\n", "no `key: value` lines", None),
    ],
)
def test_a_malformed_file_is_refused_with_its_line(yaml_file, text, complaint, line):
    """Whatever a file holds, the answer is an error with file and line."""
    path = yaml_file(text)
    with pytest.raises(UsageError) as refused:
        resolve(path)
    assert complaint in refused.value.what
    assert refused.value.where.startswith(f"{path}:{line}" if line else str(path))
    assert refused.value.remedy


def test_a_file_of_bytes_is_refused(tmp_path):
    """A checkpoint given as a config is no crash."""
    (tmp_path / "a.pth").write_bytes(b"PK\x03\x04\x00\xff\xfe")
    with pytest.raises(UsageError, match="not a YAML file"):
        resolve(tmp_path / "a.pth")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    """A folder, or a path that is not there, is the file's fault and not a setting's."""
    for path in (tmp_path, tmp_path / "absent.yaml"):
        with pytest.raises(BadFile) as refused:
            resolve(path)
        assert refused.value.where == str(path)


def test_empty_files_and_empty_sections_change_nothing(yaml_file):
    """A config may hold nothing but comments."""
    assert resolve(yaml_file("")) == Settings()
    assert resolve(yaml_file("# nothing\ntiming:\nrun: {}\n")) == Settings()


NASTY = [
    "no",
    "null",
    "~",
    "1e-4",
    "010",
    "12:30",
    " padded ",
    "a: b",
    "# x",
    "ü",
    "two\nlines",
    "'",
    "- a",
    "*a",
]


def test_resolved_settings_can_be_fed_back(yaml_file):
    """to_yaml gives a config that resolves to the same settings, for every setting and nasty texts."""
    changed = {"network": "a.py:build", "ann_weight": "w.pth", "save.save_file": "o.pth", "save.vectors": 3}
    changed |= {"fold.batch_norm": False, "finetune.lr": 1e-5, "calibrate.mode": "0.5", "check.allow": NASTY}
    changed |= {"timing.delay": 3, "neurons.reset_mode": "zero", "neurons.pooling": "sum"}
    for text in NASTY:
        settings = resolve(None, [], changed | {"data.data_dir": text})
        assert resolve(yaml_file(to_yaml(settings))) == settings
    assert resolve(yaml_file(to_yaml(Settings()))) == Settings()


def test_settings_as_a_dict_are_plain_python():
    """Fit for JSON and for a `.pth`: sections of texts, numbers and lists, nothing else."""
    tree = as_dict(resolve(None, ["check.allow=a", "network=lenet"]))
    assert tree["network"] == "lenet"
    assert tree["check"] == {"hardware": "auto", "allow": ["a"]}
    assert json.loads(json.dumps(tree)) == tree


def test_every_setting_is_described_and_defaults_to_something_allowed():
    """Each has help, a readable type, and a default that its own rule accepts."""
    assert len(KEYS) > 25
    for key in KEYS.values():
        assert key.help
        assert key.kind in KINDS
        key.parse(key.default)
    flags = [key.flag for key in KEYS.values()] + [key.short for key in KEYS.values() if key.short]
    assert len(flags) == len(set(flags))


def test_a_mode_is_read_into_its_kind_and_number():
    """The one home of the grammar of --mode."""
    assert parse_mode("99.9%") == config.Mode("percentile", 99.9)
    assert parse_mode("0.5") == config.Mode("factor", 0.5)
    assert parse_mode("1/3") == config.Mode("factor", 1 / 3)
    assert parse_mode("1.0/2") == config.Mode("factor", 0.5)
    assert parse_mode("max").kind == "max"
    assert parse_mode("mse").kind == "mse"
    assert parse_mode("match").kind == "match"
    assert parse_mode("spikes") == config.Mode("spikes", 99.0)
    assert parse_mode("spikes:99.9%") == config.Mode("spikes", 99.9)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (0.5, "0.5"),
        ("1/3", "1/3"),
        ("1.0 / 2", "1.0/2"),
        ("Max", "max"),
        ("MSE", "mse"),
        ("99.9 %", "99.9%"),
    ],
)
def test_a_mode_may_be_written_as_the_field_does(given, meant):
    """B1: numbers, fractions and words in any case, from both sides."""
    assert resolve(None, [], {"calibrate.mode": given}).calibrate.mode == meant
    assert resolve(None, [f"calibrate.mode={given}"], {}).calibrate.mode == meant


def test_config_needs_no_torch():
    """Settings are read and refused before anything heavy is imported."""
    code = "import sys, ann2snn_cli.config; print({'torch', 'numpy', 'click'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_every_bundled_config_resolves():
    """The files in configs/ are right, name their network, and begin with the command that runs them."""
    files = sorted(CONFIGS.glob("*.yaml"))
    assert len(files) >= 2
    for path in files:
        assert resolve(path).network
        assert path.read_text().startswith(f"# ann2snn convert --config {path.stem}\n")


def test_hardware_v1_holds_the_published_numbers():
    """All eight limits, and the line count that gives the same eight."""
    hardware = load_hardware(CONFIGS / "hardware" / "v1.yaml")
    assert hardware.in_channels == {
        3: {1: 113, 2: 56, 3: 37, 4: 28},
        5: {1: 40, 2: 20, 3: 13, 4: 10},
    }
    lines = hardware.synapse_lines
    assert lines is not None
    for kernel, row in hardware.in_channels.items():
        assert row == {bits: lines // (kernel * kernel * bits) for bits in row}
    assert (hardware.max_weight_bitwidth, hardware.pooling, hardware.conv_needs_relu) == (
        4,
        Pooling.SPIKING,
        True,
    )
    assert (hardware.threshold_bits, hardware.bias_bits, hardware.weight_code_bits) == (18, 19, 11)
    assert hardware.potential_bits is None  # not published
    assert not hardware.final_linear_on_chip


def test_a_hardware_file_may_leave_limits_out(yaml_file):
    """What is not named is not limited, and the file's name is the hardware's."""
    hardware = load_hardware(yaml_file("in_channels: {7: {1: 20}}\nthreshold_bits: none\n"))
    assert hardware == Hardware(name="my", in_channels={7: {1: 20}})
    assert hardware.bias_bits is None


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("in_channel: {3: {1: 2}}\n", "in_channel is not a setting"),
        ("in_channels: {3x5: {1: 2}}\n", "in_channels"),
        ("in_channels: {3: {1: 0}}\n", "above 0"),
        ("in_channels: {3: 28}\n", "a table"),
        ("in_channels: 28\n", "a table"),
        ("ops: [conv, magic]\n", "a list of conv"),
        ("ops: []\n", "a list of conv"),
        ("threshold_bits: 0\n", "from 1 to 1024, or none"),
        ("potential_bits: 0\n", "from 1 to 1024, or none"),
        ("max_weight_bitwidth: 0\n", "from 1"),
        ("pooling: max\n", "sum or spiking"),
        ("conv_needs_relu: 1\n", "true or false"),
    ],
)
def test_a_wrong_hardware_file_is_refused_with_its_line(yaml_file, text, complaint):
    """Same words, same places as for settings."""
    path = yaml_file(text)
    with pytest.raises(UsageError) as refused:
        load_hardware(path)
    assert complaint in refused.value.what
    assert refused.value.where == f"{path}:1"


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        (
            "treshold_bits: 3\n",
            "did you mean threshold_bits? It must be a whole number from 1 to 1024, or none",
        ),
        (
            "bias_bits: -3\n",
            "in {path}, set bias_bits to a whole number from 1 to 1024, or none, or leave it out",
        ),
        ("pooling: max\n", "in {path}, set pooling to sum or spiking, or leave it out"),
        ("- conv\n", "give a YAML file of limits such as `threshold_bits: 18`, as in `ann2snn cp v1 .`"),
    ],
)
def test_the_remedy_of_a_wrong_hardware_file_names_key_and_values(yaml_file, text, remedy):
    """The nearest key that is known, what it may be, and the file."""
    path = yaml_file(text)
    with pytest.raises(UsageError) as refused:
        load_hardware(path)
    bits = "a whole number from 1 to 1024, or none"
    assert refused.value.remedy == remedy.format(path=path, bits=bits)


@pytest.mark.parametrize("text", ["", "# notes\n", "name: chip\ndescription: big\n", "bias_bits: none\n"])
def test_a_hardware_file_that_limits_nothing_is_refused(yaml_file, text):
    """Every network would fit it; the remedy lists what can be set."""
    path = yaml_file(text)
    with pytest.raises(UsageError, match="it sets no limits") as refused:
        load_hardware(path)
    assert refused.value.where == str(path)
    assert "in_channels, synapse_lines, max_weight_bitwidth, ops" in refused.value.remedy
    assert "hardware='none'" in str(refused.value)
