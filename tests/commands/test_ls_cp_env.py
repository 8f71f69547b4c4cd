"""`ls`, `cp` and `env`: what there is, a copy of it to edit, and what a bug report begins with."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ann2snn_cli.__main__ import main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def document(capsys, *words: str) -> dict:
    """What a command gives with --json."""
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_ls_shows_all_five_kinds(here, capsys):
    """Every bundled file is found from any directory, with a word about it."""
    assert main(["ls"]) == 0
    text = capsys.readouterr().out
    found = document(capsys, "ls")
    assert found["schema"] == "ann2snn/ls/1"
    assert list(found)[1:] == ["networks", "datasets", "configs", "hardware", "checkpoints"]
    for kind, names in {
        "networks": {"example_net", "mnist_cnn", "debug_net0"},
        "datasets": {"digits", "mnist", "cifar10"},
        "configs": {"example_net", "mnist_cnn_8bit"},
        "hardware": {"v1"},
    }.items():
        rows = {row["name"]: row for row in found[kind]}
        assert names <= set(rows)
        for name in names:
            assert name in text
            assert kind == "datasets" or rows[name]["origin"] == "bundled"
            assert rows[name]["description"] in text
            assert rows[name]["description"]


def test_ls_shows_the_kinds_that_are_asked_for(here, capsys):
    """`ann2snn ls hardware`; the singular is understood."""
    assert list(document(capsys, "ls", "hardware", "network")) == ["schema", "hardware", "networks"]


def test_ls_of_an_unknown_kind_names_the_nearest(capsys):
    """A wrong word is a usage error."""
    assert main(["ls", "chekpoints"]) == 2
    assert "did you mean checkpoints?" in capsys.readouterr().err


def test_ls_shows_a_network_of_ones_own_in_place_of_the_bundled_one(here, capsys):
    """A file in ./networks hides the bundled one, and `origin` says so."""
    (here / "networks").mkdir()
    (here / "networks" / "lenet.py").write_text('"""My own."""\n')
    rows = {row["name"]: row for row in document(capsys, "ls", "networks")["networks"]}
    assert rows["lenet"]["description"] == "My own."
    assert rows["lenet"]["origin"] != rows["example_net"]["origin"]


def test_ls_imports_no_torch():
    """Listing is instant: it reads files and runs none."""
    code = (
        "import sys; from ann2snn_cli.__main__ import main; main(['ls']); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("name", "file", "next_command"),
    [
        ("example_net", "example_net.py", "ann2snn train ./example_net.py"),
        ("example_net.yaml", "example_net.yaml", "ann2snn convert --config ./example_net.yaml"),
        ("mnist_cnn_8bit", "mnist_cnn_8bit.yaml", "ann2snn convert --config ./mnist_cnn_8bit.yaml"),
        ("v1", "v1.yaml", "ann2snn check example_net --hardware ./v1.yaml"),
    ],
)
def test_cp_gives_an_equal_copy_and_the_next_command(name, file, next_command, here, capsys):
    """The copy lies in the folder that was named, ready to edit."""
    assert document(capsys, "cp", name) == {"schema": "ann2snn/cp/1", "file": file, "next": next_command}
    assert len((here / file).read_bytes()) > 50
    assert main(["cp", name, "sub"]) == 0
    assert "next: " in capsys.readouterr().out
    assert (here / "sub" / file).read_bytes() == (here / file).read_bytes()


def test_cp_overwrites_only_when_told(here, capsys):
    """What one has edited is not lost."""
    (here / "v1.yaml").write_text("mine")
    assert main(["cp", "v1"]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert (here / "v1.yaml").read_text() == "mine"
    assert main(["cp", "v1", "--overwrite"]) == 0
    assert "in_channels" in (here / "v1.yaml").read_text()


def test_cp_of_an_unknown_name_gives_the_nearest(here, capsys):
    """A wrong name is a usage error, and nothing is written."""
    assert main(["cp", "exmple_net"]) == 2
    assert "did you mean example_net" in capsys.readouterr().err
    assert list(here.iterdir()) == []


def test_env_prints_versions_and_the_device(capsys):
    """Ready to paste: one fact a line."""
    facts = document(capsys, "env")
    assert facts["schema"] == "ann2snn/env/1"
    assert {"ann2snn", "python", "torch", "torchvision", "numpy", "onnx", "click", "platform"} <= set(facts)
    assert facts["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}")
    assert facts["devices"]["auto"]
    assert main(["env"]) == 0
    text = capsys.readouterr().out
    assert f"torch        {facts['torch']}\n" in text
    assert f"auto takes {facts['devices']['auto']}" in text
