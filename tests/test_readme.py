"""Every command and every piece of Python in README.md does what it says."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from few_digits import few_digits

import ann2snn_cli
from ann2snn_cli.__main__ import main
from ann2snn_cli.commands import EXIT_CODES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
COMMANDS = [line.strip() for line in README.splitlines() if line.startswith("    ann2snn ")]
# Its pieces of Python: a network, one with two inputs, a rule for an activation, a conversion, its
# stages, a part of a network, steps.
MY_NET, PAIR_NET, STRAIGHT, FROM_PYTHON, BY_STAGE, PART, IN_TIME = re.findall(
    r"```python\n(.*?)```", README, re.DOTALL
)


# What the commands after the first need, in a shorter form than the README gives it.
EARLIER = (
    "ann2snn convert example_net --finetune_epochs 0 --vectors 2",
    "ann2snn train my_net --epochs 1",
    "ann2snn train pair_net --epochs 1",
    "ann2snn cp v1 .",
)


def save_pairs(path):
    """Images and vectors at random, in three classes."""
    random = np.random.default_rng(0)
    image, vector = random.random((60, 1, 8, 8), np.float32), random.random((60, 5), np.float32) - 0.5
    np.savez(path, image=image, vector=vector, y=np.arange(60) % 3)


@pytest.fixture(scope="module", autouse=True)
def _few_digits():
    """Commands are to run; what they score on all digits, the tests of `convert` hold."""
    with few_digits():
        yield


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """A folder like a new user's, with the network of the README's recipe, and what EARLIER left in it."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "networks").mkdir()
    (folder / "networks" / "my_net.py").write_text(MY_NET)
    (folder / "networks" / "pair_net.py").write_text(PAIR_NET)
    (folder / "straight.py").write_text(STRAIGHT)
    save_pairs(folder / "pairs.npz")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for command in EARLIER:
            assert main(shlex.split(command)[1:]) == 0
    return folder


@pytest.mark.parametrize("command", dict.fromkeys(COMMANDS))
def test_a_command_of_the_readme_succeeds(command, earlier, tmp_path, monkeypatch, capfd):
    """A reader who types an `ann2snn` line of the README, after those before it, meets no error."""
    shutil.copytree(earlier, tmp_path, dirs_exist_ok=True)
    if command == "ann2snn cp v1 .":
        (tmp_path / "v1.yaml").unlink()
    monkeypatch.chdir(tmp_path)
    words, pipe, rest = command.partition(" | ")

    code = main(shlex.split(words)[1:])

    printed = capfd.readouterr()
    assert code == 0, printed.err
    if pipe:
        reader = shlex.split(rest)
        reader[0] = sys.executable
        result = subprocess.run(reader, input=printed.out, capture_output=True, text=True, check=True)
        assert "stepwise" in result.stdout


def test_there_are_commands_in_the_readme():
    """The test above is not one of nothing."""
    assert len(COMMANDS) >= 10


def test_the_files_of_the_table_are_written(earlier):
    """The table of files names what the main command writes, and nothing else is written."""
    named = set(re.findall(r"^\| `(example_net_snn[^`]*)`", README, re.MULTILINE))
    others = {"networks/", "checkpoints/", "straight.py", "pairs.npz", "v1.yaml"}

    written = {path.name + "/" * path.is_dir() for path in earlier.iterdir()}

    assert len(named) == 4
    assert named == written - others
    assert others < written


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch):
    """The Python recipe converts, runs, prints, saves and loads a network."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 3)
    )
    names = {"network": network, "x": torch.rand(16, 1, 8, 8)}

    exec(compile(FROM_PYTHON, "README.md", "exec"), names)

    assert names["outputs"].shape == (16, 3)
    assert torch.equal(names["snn"](names["x"]), names["outputs"])
    assert isinstance(names["snn"], ann2snn_cli.SpikingNetwork)


def test_the_stages_of_the_readme_run():
    """The recipe goes from a network to an SNN and scores both."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 3)
    )
    names = {"network": network, "x": torch.rand(16, 1, 8, 8), "labels": torch.arange(16) % 3}

    exec(compile(BY_STAGE, "README.md", "exec"), names)

    assert names["spiking"].loss > 0
    assert isinstance(names["in_floats"], ann2snn_cli.SpikingNetwork)


def test_the_steps_of_the_readme_run(tmp_path, monkeypatch):
    """What was stepped is what the whole sequence gives; the state is put back (C3)."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    frames = torch.rand(16, 5, 6)
    snn = ann2snn_cli.convert(network, frames[0], timesteps=16, weight_bitwidth=8)
    names = {"snn": snn, "frames": frames}

    exec(compile(IN_TIME, "README.md", "exec"), names)

    assert torch.equal(names["outputs"], names["whole"].outputs[0])
    assert names["whole"].by_step[0].shape == (16, 5, 3)
    assert snn.state["step"] == 16


def test_the_part_of_a_network_of_the_readme_runs(tmp_path, monkeypatch):
    """The recipe trains, mixes and writes."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    network = torch.nn.Sequential()
    network.backbone = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU())
    network.head = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(144, 3))
    x = torch.rand(16, 1, 8, 8)
    loader = [(x, torch.arange(16) % 3)]
    names = {"network": network, "x": x, "loader": loader, "criterion": torch.nn.CrossEntropyLoss()}

    exec(compile(PART, "README.md", "exec"), names)

    assert names["outputs"].shape == (16, 3)
    assert {path.name for path in (tmp_path / "part").iterdir()} == {"part_snn.pth", "part_snn_pack"}


def test_the_scripts_of_the_readme_are_there_and_run_the_main_command():
    """The two commands at the top are executable files; the demo is the main job, word for word."""
    for script in ("demo", "test", "check", "setup", "prove_layerwise"):
        assert os.access(ROOT / "scripts" / script, os.X_OK)
    assert "    scripts/demo" in README
    assert "    scripts/test" in README
    assert COMMANDS[1] in (ROOT / "scripts" / "demo").read_text()
    assert "scripts/test" in (ROOT / ".ci" / "run").read_text()


def test_the_exit_codes_of_the_readme_are_those_of_the_help():
    """README and --help list the same codes."""
    in_readme = re.findall(r"^\| (\d+) \|", README, re.MULTILINE)

    assert in_readme == re.findall(r"^  (\d+) ", EXIT_CODES, re.MULTILINE)


def test_the_links_of_the_readme_lead_somewhere():
    """Every file the README links to or names in its tables exists."""
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    named = re.findall(r"^\| `([\w/]+(?:\.py|/))`", README, re.MULTILINE)

    assert len(links) >= 3
    assert len(named) >= 5
    assert [
        path for path in [*links, *named] if not (ROOT / path).exists() and not path.endswith("_snn_pack/")
    ] == []


def test_the_checkpoints_that_ship_are_those_that_are_described():
    """The accuracy in checkpoints/README.md is the one that each file holds."""
    described = (ROOT / "checkpoints" / "README.md").read_text("utf-8")
    rows = dict(re.findall(r"\| `(\S+\.pth)` .*?(\d+\.\d\d) % \|", described))
    assert rows
    for name, accuracy in rows.items():
        held = torch.load(ROOT / "checkpoints" / name)["provenance"]["test_accuracy"]
        assert f"{100 * held:.2f}" == accuracy
