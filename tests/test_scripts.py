"""scripts/setup makes the environment once, again when pyproject.toml is newer, and never half."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"

# Stands in for python3: notes how it was called, and "makes" an environment that holds itself.
PYTHON = """#!/bin/sh
echo "$*" >>"{log}"
case "$*" in
*"-m venv"*) mkdir -p "{venv}/bin" && cp "$0" "{venv}/bin/python" ;;
*"pip install"*) exit {pip} ;;
*version_info*) exit {old} ;;
esac
"""


@pytest.fixture
def checkout(tmp_path):
    """A checkout with nothing but scripts/setup and pyproject.toml; gives a function that runs it."""
    root = tmp_path / "a checkout"
    (root / "scripts").mkdir(parents=True)
    shutil.copy(SCRIPTS / "setup", root / "scripts" / "setup")
    (root / "pyproject.toml").write_text("")

    def setup(pip: int = 0, old: int = 0) -> tuple[int, int]:
        log, python = tmp_path / "log", tmp_path / "python"
        log.write_text("")
        python.write_text(PYTHON.format(log=log, venv=root / ".venv", pip=pip, old=old))
        python.chmod(0o755)
        if (root / ".venv" / "bin").is_dir():
            shutil.copy(python, root / ".venv" / "bin" / "python")
        environment = os.environ | {"PYTHON": str(python)}
        done = subprocess.run(
            [root / "scripts" / "setup"], env=environment, capture_output=True, cwd=tmp_path
        )
        return done.returncode, log.read_text().count("pip install")

    setup.root = root
    return setup


def test_the_second_run_installs_nothing(checkout):
    """Exit code and number of installs: one the first time, none the second."""
    assert checkout() == (0, 1)
    assert checkout() == (0, 0)


def test_a_newer_pyproject_installs_again(checkout):
    """The environment follows the dependencies."""
    checkout()
    stamp = next(checkout.root.glob(".venv/.ann2snn*"))
    later = stamp.stat().st_mtime + 10
    os.utime(checkout.root / "pyproject.toml", (later, later))
    assert checkout() == (0, 1)


def test_a_moved_checkout_installs_again(checkout):
    """An environment knows its own path; that of another place is of no use."""
    checkout()
    stamp = next(checkout.root.glob(".venv/.ann2snn*"))
    stamp.write_text("/elsewhere")
    assert checkout() == (0, 1)


def test_an_install_that_failed_is_tried_again(checkout):
    """Nothing half-made passes for ready."""
    assert checkout(pip=1) == (1, 1)
    assert checkout() == (0, 1)


def test_an_old_python_is_refused(checkout):
    """The message comes before anything is made."""
    assert checkout(old=1) == (1, 0)
    assert not (checkout.root / ".venv").exists()


@pytest.mark.parametrize("name", ["setup", "check", "test", "demo"])
def test_scripts_can_be_run(name):
    """They are executable, and set -eu."""
    assert os.access(SCRIPTS / name, os.X_OK)
    assert "set -eu" in (SCRIPTS / name).read_text()
