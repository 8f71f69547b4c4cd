"""`--show_config`, and the command line of the tool that this one follows."""

import json
import shutil

import pytest
import torch
import yaml
from few_digits import few_digits

from ann2snn_cli.catalog import bundled
from ann2snn_cli.config import resolve

# Every option of that tool, and its default.
OPTIONS = {
    "dataset": "mnist", "num_workers": 0, "batch_size": 128, "test_batch_size": 128, "timesteps": 16,
    "reset_mode": "subtraction", "weight_bitwidth": 4, "finetune_lr": 0.005, "finetune_epochs": 5,
    "finetune_wd": 5e-4, "finetune_momentum": 0.9, "ann_weight": "auto", "save_file": "",
}  # fmt: skip


def test_the_command_of_the_origin_tool_runs_as_it_stands(here, ann2snn):
    """Word for word: 4 bits, 16 steps, 30 epochs, a checkpoint by path, a file to write (A1)."""
    (here / "checkpoints").mkdir()
    shutil.copy(bundled("checkpoints") / "example_net-digits.pth", "checkpoints/example_net_ann.pth")
    words = (
        "convert example_net --weight_bitwidth 4 --timesteps 16 --finetune_epochs 30 "
        "--ann_weight checkpoints/example_net_ann.pth --save_file out_snn.pth"
    )
    with few_digits():
        done = ann2snn(*words.split(), "--vectors", "0")

    assert done.code == 0, done.err
    assert "epoch 30/30" in done.err
    held = torch.load("out_snn.pth")
    assert held["provenance"]["settings"]["finetune"]["epochs"] == 30


def test_every_option_of_the_origin_tool_is_taken_and_has_its_default(ann2snn):
    """Its names, long and short, both ways to reset, and what holds where nothing is said (A1)."""
    defaults = ann2snn("convert", "example_net", "--show_config", "--json").document["settings"]
    flat = {**defaults, **defaults["data"], **defaults["quantize"], **defaults["timing"]}
    flat |= {**defaults["neurons"], **{f"finetune_{k}": v for k, v in defaults["finetune"].items()}}
    flat |= {**defaults["save"], "dataset": "mnist"}  # of data, each network has its own
    assert {name: flat[name] for name in OPTIONS} == OPTIONS

    words = [word for name, value in OPTIONS.items() if value != "" for word in (f"--{name}", str(value))]
    more = (
        "-e",
        "3",
        "-T",
        "8",
        "--reset_mode",
        "zero",
        "--save_file",
        "out_snn.pth",
        "--show_config",
        "--json",
    )
    given = ann2snn("convert", "example_net", *words, *more).document
    assert (given["settings"]["timing"]["timesteps"], given["settings"]["finetune"]["epochs"]) == (8, 3)
    assert given["settings"]["neurons"]["reset_mode"] == "zero"


def test_what_is_shown_is_a_config_and_says_where_each_setting_comes_from(here, ann2snn):
    """A file with its line, --set, a flag, the argument, else the default."""
    (here / "my.yaml").write_text("timing:\n  timesteps: 8\nquantize: {weight_bitwidth: 3}\n")
    words = ("convert", "lenet", "--config", "my.yaml", "--set", "run.seed=2", "-e", "0")
    done = ann2snn(*words, "--show_config")

    assert done.code == 0, done.err
    lines = {
        line.split("#")[0].strip(): line.split("#")[1].strip()
        for line in done.out.splitlines()
        if "#" in line
    }
    assert lines["network: lenet"] == "NETWORK"
    assert lines["timesteps: 8"] == "my.yaml:2"
    assert lines["weight_bitwidth: 3"] == "my.yaml:3"
    assert lines["seed: 2"] == "--set run.seed=2"
    assert lines["epochs: 0"] == "--finetune_epochs"
    assert lines["batch_size: 128"] == "default"
    (here / "shown.yaml").write_text(done.out)
    again = resolve(here / "shown.yaml")
    assert again == resolve(here / "my.yaml", ["run.seed=2"], {"network": "lenet", "finetune.epochs": 0})
    assert yaml.safe_load(done.out)["check"]["allow"] == []


@pytest.mark.parametrize("command", ["train", "check", "analyse-error", "inspect"])
def test_each_command_shows_its_own_settings_and_does_nothing_else(command, here, ann2snn):
    """No network is needed for that, and no file is written."""
    done = ann2snn(command, "--show_config", "--json")

    assert done.code == 0, done.err
    assert json.loads(done.out)["schema"] == "ann2snn/config/1"
    assert ("timing.timesteps" in done.document["from"]) is (command == "analyse-error")
    assert list(here.iterdir()) == []


def test_settings_that_are_wrong_are_not_shown(ann2snn):
    """The mistakes are."""
    done = ann2snn("convert", "lenet", "--timesteps", "0", "--show_config")

    assert (done.code, done.out) == (2, "")
    assert "timing.timesteps is 0" in done.err
