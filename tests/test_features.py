"""docs/features.md: every row of what the known systems do is there, and has a test that names it."""

import re
import shlex
from pathlib import Path

import pytest

from ann2snn_cli.__main__ import main

ROOT = Path(__file__).parents[1]
FEATURES = (ROOT / "docs" / "features.md").read_text("utf-8")
COMMANDS = re.findall(r"`ann2snn ((?!ls|cp)[^`]*)`", FEATURES)
ROWS = re.findall(r"^\| ([A-C]\d+) \|", FEATURES, re.MULTILINE)
WANTED = [*(f"A{n}" for n in range(1, 12)), *(f"B{n}" for n in range(1, 8)), *(f"C{n}" for n in range(1, 4))]


def test_every_row_is_there_in_order():
    """A1 to A11 (the origin tool), B1 to B7 (SpikingJelly), C1 to C3 (Matterhorn)."""
    assert list(dict.fromkeys(ROWS)) == WANTED


def test_every_row_is_named_by_a_test():
    """In the text of a test of its own, or of a file of tests."""
    written = "\n".join(
        path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py") if path != Path(__file__)
    )
    texts = re.findall(r'"""(.+?)"""', written, re.DOTALL)
    named = {row for text in texts for row in re.findall(r"\b[A-C]\d{1,2}\b", text)}
    assert [row for row in WANTED if row not in named] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_table_can_be_given(command, capsys):
    """Its words are those of the command line; what it does, the tests that name its row hold."""
    assert main([*shlex.split(command), "--show_config"]) == 0
    assert capsys.readouterr().out


def test_there_are_commands_in_the_table():
    """The test above is not one of nothing."""
    assert len(COMMANDS) > 20
