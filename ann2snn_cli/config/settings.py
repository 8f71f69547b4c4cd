"""The settings of a run: one frozen dataclass a section, each named after what is in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

from ann2snn_cli.config.fields import Checked, Rule, Section, at_least, between, keys_of, setting
from ann2snn_cli.config.kinds import KINDS, read_text_or_number
from ann2snn_cli.config.recipes import Decay
from ann2snn_cli.config.schedule import FinetuneOn, Schedule, chosen_delay
from ann2snn_cli.errors import Setting, UsageError
from ann2snn_cli.ir.contract import MOST_TIMESTEPS, Encoding, Method, Pooling, Reset, Rounding

LARGEST_RATE = 1e30  # what is larger has no room in float32, where an optimizer multiplies it
MOST_WEIGHT_BITS = 8  # and 32, which are floats
WEIGHT_BITWIDTH = Rule(
    f"1 to {MOST_WEIGHT_BITS} bits, or 32 (floats)", lambda bits: 1 <= bits <= MOST_WEIGHT_BITS or bits == 32
)
TIMESTEPS = Rule(
    f"a whole number from 1 to {MOST_TIMESTEPS}: a count then has 16 bits, more than inputs and weights have",
    lambda steps: 1 <= steps <= MOST_TIMESTEPS,
)
ABOVE_ZERO = Rule(f"a number above 0, at most {LARGEST_RATE:g}", lambda value: 0 < value <= LARGEST_RATE)
NOT_NEGATIVE = Rule(
    f"a number, 0 or more, at most {LARGEST_RATE:g}", lambda value: 0 <= value <= LARGEST_RATE
)
SAMPLES = Rule("a whole number, 1 or more, or none", lambda number: number is None or number >= 1)
DELAY = Rule("a whole number, 0 or more, or none", lambda delay: delay is None or delay >= 0)
BELOW_ONE = Rule("a number from 0 up to, but not, 1", lambda value: 0 <= value < 1)
DEVICE = Rule("auto, cpu, cuda or cuda:N", lambda name: bool(re.fullmatch(r"auto|cpu|cuda(:\d+)?", name)))

AUTO_WEIGHT = "auto"  # as ann_weight: the checkpoint of this network and dataset
NO_WEIGHT = "none"  # as ann_weight: the weights that build() gives, whatever they are


MODES_TO_COMPARE = ("max", "99.9%", "1/2", "1/3", "mse", "spikes", "match")
ON_SPIKES = "spikes"  # the mode of clips that are set layer by layer, on the spikes of the layers before
AUGMENT = (
    "move training images by a few pixels at random, and mirror half of them where the dataset says that "
    "labels stay (auto: CIFAR, and no other)"
)
NUMBER = r"(?:\d+\.?\d*|\.\d+)"


@dataclass(frozen=True)
class Mode:
    """How a population's clip is chosen from its activations."""

    kind: Literal["percentile", "max", "mse", "factor", "spikes", "match"]
    value: float = 1.0  # the percentile, 0 < p <= 100, or the factor of the maximum, 0 < x <= 1


def parse_mode(text: str) -> Mode:
    """Read "99.9%", "max", "mse", "0.5", "1/3", "match", "spikes" or "spikes:99%"; else ValueError."""
    if text in ("max", "mse", "match"):
        return Mode(text)  # type: ignore[arg-type]  # one of its words
    if text == ON_SPIKES:
        return Mode("spikes", 99.0)
    if text.startswith(f"{ON_SPIKES}:"):
        return Mode("spikes", parse_percent(text.partition(":")[2]))
    if text.endswith("%"):
        return Mode("percentile", parse_percent(text))
    return Mode("factor", _within(_fraction(text), 1.0))


def parse_percent(text: str) -> float:
    """Read "99.9%"."""
    if not re.fullmatch(f"{NUMBER}%", text, re.ASCII):
        raise ValueError(text)
    return _within(float(text[:-1]), 100.0)


def _fraction(text: str) -> float:
    """A number, or one divided by another."""
    found = re.fullmatch(f"({NUMBER})(?:/({NUMBER}))?", text, re.ASCII)
    if not found or (found[2] and not float(found[2])):
        raise ValueError(text)
    return float(found[1]) / float(found[2] or 1)


def _within(value: float, highest: float) -> float:
    if not 0 < value <= highest:
        raise ValueError(value)
    return value


def _is_mode(text: str) -> bool:
    try:
        parse_mode(text)
    except ValueError:
        return False
    return True


def _read_mode(value: object) -> str:
    """As it is compared and saved: "Max" is max, and "1.0 / 2" is 1.0/2."""
    return "".join(read_text_or_number(value).split()).lower()


MODE = Rule(
    "a percentile such as 99.9%, max, mse, a factor of the maximum, above 0 and up to 1, such as 0.5 or 1/3, "
    "spikes or match",
    _is_mode,
    examples=("99.9%", "max", "mse", "0.5", "spikes", "match"),
    read=_read_mode,
)
TASK = Rule("auto, or the name of a task such as regression", bool)
ENGINE = Rule("auto, or the name of an engine such as reference", bool)
WEIGHT = Rule("auto, none, or the name, path or URL of a checkpoint", bool)
HARDWARE = Rule("auto, none, or the name or path of a hardware file", bool)


@dataclass(frozen=True)
class Data(Section):
    """Which samples."""

    dataset: str = setting("", "dataset by name, or path.py:loader (default: the network's own)")
    data_dir: str = setting("", "folder that holds datasets (default: ANN2SNN_DATA, else ./data)")
    task: str = setting(
        "auto",
        "what labels mean: classification, regression, segmentation, detection (auto: what the data are for)",
        TASK,
    )
    num_workers: int = setting(0, "processes that load data", at_least(0))
    batch_size: int = setting(128, "samples a step of training, and of calibration", at_least(1))
    test_batch_size: int = setting(128, "samples a step of testing", at_least(1))
    test_samples: int | None = setting(
        None, "test samples that are used, always the same ones (default: all)", SAMPLES
    )
    calibration_samples: int = setting(1024, "training samples that thresholds are set from", at_least(1))


@dataclass(frozen=True)
class Fold(Section):
    """Batch norms."""

    batch_norm: bool = setting(True, "fuse batch norms into the layers before them")


@dataclass(frozen=True)
class Calibrate(Section):
    """The real value a population can carry at most."""

    mode: str = setting(
        "99.9%",
        "how clips are chosen: P%, max, mse, a factor 0<x<=1 of the max, spikes: layer by layer, on the "
        "spikes of the layers before (spikes:P%; 99), or match: as mse (of each channel with channel_wise), "
        "and weights and biases are fitted too, so that each layer gives what it gave in floats",
        MODE,
    )


@dataclass(frozen=True)
class Quantize(Section):
    """The grid of the weights."""

    weight_bitwidth: int = setting(4, "signed bits a weight: 1 to 8, or 32 for floats", WEIGHT_BITWIDTH)
    method: Method = setting(
        Method.INTEGER,
        "integer: every layer with weights is quantized; td: those beside operators of real numbers (layer "
        "norm, GELU, softmax, attention) are temporal differences too, no spikes, up to the next ReLU",
    )
    channel_wise: bool = setting(False, "one scale for each output channel instead of one a layer")
    bias_correction: bool = setting(
        True, "correct biases for the delay that is used, by mean errors on calibration samples"
    )


@dataclass(frozen=True)
class Finetune(Section):
    """Training with quantized weights; 0 epochs leaves it out."""

    epochs: int = setting(
        5, "epochs of finetuning; 0 is training-free", at_least(0), flag="finetune_epochs", short="-e"
    )
    lr: float = setting(0.005, "learning rate, at first", ABOVE_ZERO, flag="finetune_lr")
    schedule: Decay = setting(
        Decay.STEP,
        "how the rate falls: step, x0.1 at 50 % and 75 % of the epochs; cosine, to 0 along half a cosine",
        flag="finetune_schedule",
    )
    momentum: float = setting(0.9, "momentum of the optimizer", BELOW_ONE, flag="finetune_momentum")
    wd: float = setting(5e-4, "weight decay", NOT_NEGATIVE, flag="finetune_wd")
    on: FinetuneOn | None = setting(
        None,
        "what neurons pass on meanwhile: counts in closed form, right for a delay of T, or the spikes of the "
        "delay in use, which takes longer (auto: counts; spikes where the reset is to zero)",
        flag="finetune_on",
    )
    augment: bool | None = setting(None, AUGMENT)
    distill: float = setting(
        0.0, "how much the outputs of the float network count beside the labels; 0: not at all", NOT_NEGATIVE
    )
    bf16: bool = setting(
        False,
        "convolutions multiply in bfloat16 and add up in float32, quicker on a CPU with AMX: counts and "
        "weights of up to 8 bits stay exact, gradients do not, nor does an input of more",
        flag="finetune_bf16",
    )
    held_out: float = setting(
        0.0,
        "share of the training set that finetuning does not see: the epoch that scores best on it is kept "
        "(0: the last one)",
        BELOW_ONE,
    )


@dataclass(frozen=True)
class Timing(Section):
    """How long a sample is shown, and when the layers fire (SPEC 5)."""

    timesteps: int = setting(16, "steps a sample is shown", TIMESTEPS, short="-T")
    schedule: Schedule | None = setting(
        None,
        "the name of a delay: stepwise is 0, all layers run at each step; layerwise is T, a layer integrates "
        "its whole input, then fires (auto: stepwise, unless a delay is given)",
    )
    delay: int | None = setting(
        None, "steps a layer integrates before it may fire, 0 to T (default: what the schedule says)", DELAY
    )

    encoding: Encoding | None = setting(
        None,
        "how a sample is shown: direct, the same at every step; poisson, as spikes by chance; frames, one "
        "for each step, [T, ...] a sample (auto: direct, of an SNN its own)",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        chosen_delay(self.timesteps, self.schedule, self.delay, is_converted=False)

    @property
    def shown(self) -> Encoding:
        """The encoding that was asked for; direct where none was."""
        return self.encoding or Encoding.DIRECT

    @property
    def firing_delay(self) -> int:
        """The delay that was asked for; 0 where none was."""
        return chosen_delay(self.timesteps, self.schedule, self.delay, is_converted=False) or 0


@dataclass(frozen=True)
class Neurons(Section):
    """What a neuron does, and where neurons are put."""

    reset_mode: Reset = setting(Reset.SUBTRACTION, "what a spike does to the potential")
    rounding: Rounding = setting(
        Rounding.POTENTIAL,
        "where the half spike that rounds counts is put: in the first potential, in the bias, or nowhere",
    )
    pooling: Pooling | None = setting(
        None, "average pooling by integer sums or by spiking neurons (auto: what the hardware says, else sum)"
    )


@dataclass(frozen=True)
class Check(Section):
    """The limits of a chip."""

    hardware: str = setting(
        "auto", "hardware by name or path, or none (auto: the network's own, else none)", HARDWARE
    )
    allow: tuple[str, ...] = setting((), "a hardware rule that may be broken; repeat for more")


@dataclass(frozen=True)
class Run(Section):
    """What every stage needs."""

    seed: int = setting(0, "seed of every random choice", between(0, 2**32 - 1))
    device: str = setting("auto", "auto, cpu, cuda or cuda:N", DEVICE)
    engine: str = setting(
        "auto",
        "what steps the SNN: an engine by name, such as reference (auto: the quickest that can run it)",
        ENGINE,
    )
    threads: int = setting(0, "threads of the CPU (0: as many as torch takes)", between(0, 1024))


@dataclass(frozen=True)
class Save(Section):
    """What is written."""

    save_file: str = setting("", "the .pth to write (default: NETWORK_snn.pth in the working directory)")
    output_dir: str = setting(
        "",
        "folder for files whose names tell runs apart: NETWORK_b4_T16_snn.pth for 4 bits and 16 steps, "
        "NETWORK_b4_T16_D4_snn.pth with a delay of 4",
    )
    vectors: int = setting(
        10, "test samples whose inputs and expected spikes are saved; 0 for none", at_least(0)
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_two_places(Setting("save_file", self.save_file), Setting("output_dir", self.output_dir))


def refuse_two_places(path: Setting, folder: Setting) -> None:
    """Refuse both the path of a result and a folder for it."""
    if path.value and folder.value:
        raise UsageError(
            "the place of what is written is given twice",
            where=" and ".join(str(Setting(each.name, str(each.value))) for each in (path, folder)),
            remedy=f"give {Setting(path.name)} or {Setting(folder.name)}, the folder it is put in",
        )


@dataclass(frozen=True)
class Settings(Checked):
    """Everything that a run can be told, and enough to repeat it."""

    network: str = setting("", "network by name or path (`ann2snn ls`)")
    ann_weight: str = setting(
        AUTO_WEIGHT,
        "checkpoint of the trained network: a name, a path or URL#sha256=HASH (auto: NETWORK-DATASET.pth in "
        "checkpoints/; none: the weights that build() gives)",
        WEIGHT,
    )
    allow_other_dataset: bool = setting(False, "take a checkpoint that was trained on other data, too")
    rules: str = setting("", "file of rules for activations, clips and neurons: path.py or module")
    data: Data = field(default_factory=Data)
    fold: Fold = field(default_factory=Fold)
    calibrate: Calibrate = field(default_factory=Calibrate)
    quantize: Quantize = field(default_factory=Quantize)
    finetune: Finetune = field(default_factory=Finetune)
    timing: Timing = field(default_factory=Timing)
    neurons: Neurons = field(default_factory=Neurons)
    check: Check = field(default_factory=Check)
    run: Run = field(default_factory=Run)
    save: Save = field(default_factory=Save)


def idle(settings: Settings) -> dict[str, tuple[str, str]]:
    """Settings that do nothing beside the others, by dotted name: when, and what else to give."""
    if settings.finetune.epochs:
        return {}
    words = f"without finetuning ({Setting('finetune_epochs', 0)})", f"raise {Setting('finetune_epochs')}"
    others = (key.dotted for key in KEYS.values() if key.section == "finetune" and key.name != "epochs")
    return dict.fromkeys(others, words)


SECTIONS: dict[str, type[Section]] = {kind.section(): kind for kind in Section.__subclasses__()}

KEYS = keys_of(Settings)


def build(values: Mapping[str, Any]) -> Settings:
    """Settings from values by dotted name; the rest keeps its default."""
    parts: dict[str, dict[str, Any]] = {section: {} for section in ("", *SECTIONS)}
    for dotted, value in values.items():
        section, _, name = dotted.rpartition(".")
        parts[section][name] = value
    top = parts.pop("")
    top |= {name: SECTIONS[name](**own) for name, own in parts.items()}
    return Settings(**top)


def as_dict(settings: Settings) -> dict[str, Any]:
    """Plain Python, fit for JSON and YAML; `resolve` gives the same Settings from it."""
    tree: dict[str, Any] = {}
    for key in KEYS.values():
        value = key.of(settings)
        place = tree.setdefault(key.section, {}) if key.section else tree
        place[key.name] = KINDS[key.kind].write(value)
    return tree


def to_yaml(settings: Settings) -> str:
    """A config file that gives exactly these settings when it is fed back with --config."""
    return yaml.safe_dump(as_dict(settings), sort_keys=False, allow_unicode=True, width=1000)
