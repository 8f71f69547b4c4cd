"""Networks, configs, hardware and checkpoints by name or path.

An existing path is taken as it is; a name is looked up in the working directory (`./networks/NAME.py`), then
among those that came with the tool. No file is imported to list it, and torch is imported only to build
a network or to load weights: `ann2snn --help` and `ls` must not wait for it.

files.py      where each kind lies; finding, listing, copying
networks.py   a network's file: what it says of itself, building it
rules.py      a user's file of rules for activations
weights.py    a checkpoint into a network, with every disagreement listed
"""

from ann2snn_cli.catalog.files import (
    Entry,
    bundled,
    checkpoint_file,
    config_file,
    copy,
    hardware_file,
    list_checkpoints,
    list_configs,
    list_hardware,
    list_networks,
)
from ann2snn_cli.catalog.networks import (
    NetworkSpec,
    checkpoint_name,
    default_checkpoint,
    network,
    other_checkpoints,
)
from ann2snn_cli.catalog.rules import load_rules
from ann2snn_cli.catalog.weights import Weights, load_weights

__all__ = [
    "Entry",
    "NetworkSpec",
    "Weights",
    "bundled",
    "checkpoint_file",
    "checkpoint_name",
    "config_file",
    "copy",
    "default_checkpoint",
    "hardware_file",
    "list_checkpoints",
    "list_configs",
    "list_hardware",
    "list_networks",
    "load_rules",
    "load_weights",
    "network",
    "other_checkpoints",
]
