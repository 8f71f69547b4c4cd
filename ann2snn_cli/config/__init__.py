"""What a run can be told: `Settings`, where they come from, and `Hardware`.

settings.py   one frozen dataclass a section, and the rules of their values
sources.py    `resolve`: defaults < config file < words < flags, every mistake at once
shown.py      the settings as text, and where each comes from
hardware.py   a chip's limits and `load_hardware`
fields.py     what a setting is: default, rule, help, flag; flags and help are made from it
kinds.py      how a value of each declared type is read: the words for a mode become its enum here
provenance.py where an SNN comes from, as a .pth says it
schedule.py   stepwise and layerwise, the names of two delays; counts or spikes, what finetuning sees
"""

from ann2snn_cli.config.fields import Key
from ann2snn_cli.config.hardware import OPS, Hardware, load_hardware
from ann2snn_cli.config.provenance import Provenance
from ann2snn_cli.config.schedule import FinetuneOn, Schedule, chosen_delay, delay_name
from ann2snn_cli.config.settings import (
    AUTO_WEIGHT,
    KEYS,
    MODES_TO_COMPARE,
    MOST_WEIGHT_BITS,
    NO_WEIGHT,
    SECTIONS,
    Calibrate,
    Check,
    Data,
    Finetune,
    Fold,
    Mode,
    Neurons,
    Quantize,
    Run,
    Save,
    Settings,
    Timing,
    as_dict,
    parse_mode,
    to_yaml,
)
from ann2snn_cli.config.shown import origins_of, with_origins
from ann2snn_cli.config.sources import resolve, resolved, unused

__all__ = [
    "AUTO_WEIGHT",
    "KEYS",
    "MODES_TO_COMPARE",
    "MOST_WEIGHT_BITS",
    "NO_WEIGHT",
    "OPS",
    "SECTIONS",
    "Calibrate",
    "Check",
    "Data",
    "Finetune",
    "FinetuneOn",
    "Fold",
    "Hardware",
    "Key",
    "Mode",
    "Neurons",
    "Provenance",
    "Quantize",
    "Run",
    "Save",
    "Schedule",
    "Settings",
    "Timing",
    "as_dict",
    "chosen_delay",
    "delay_name",
    "load_hardware",
    "origins_of",
    "parse_mode",
    "resolve",
    "resolved",
    "to_yaml",
    "unused",
    "with_origins",
]
