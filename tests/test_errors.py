"""Errors: what, where, remedy; and settings in them, spelled as the reader writes them."""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from ann2snn_cli.commands.flags import as_flag, in_flags
from ann2snn_cli.config import KEYS
from ann2snn_cli.errors import HardwareViolations, InvalidGraph, Setting, UsageError, as_argument, spelled
from ann2snn_cli.ir.contract import Reset

PACKAGE = Path(__file__).parents[1] / "ann2snn_cli"


@pytest.mark.parametrize(
    ("setting", "flag", "argument"),
    [
        (Setting("weight_bitwidth"), "--weight_bitwidth", "weight_bitwidth"),
        (Setting("weight_bitwidth", 4), "--weight_bitwidth 4", "weight_bitwidth=4"),
        (Setting("finetune_lr", 1e-3), "--finetune_lr 0.001", "finetune_lr=0.001"),
        (Setting("mode", "99.9%"), "--mode 99.9%", "mode='99.9%'"),
        (Setting("reset_mode", Reset.ZERO), "--reset_mode zero", "reset_mode='zero'"),
        (Setting("channel_wise", False), "--no_channel_wise", "channel_wise=False"),
        (Setting("overwrite", True), "--overwrite", "overwrite=True"),
        (Setting("allow", ("op", "pooling")), "--allow op --allow pooling", "allow=('op', 'pooling')"),
        (Setting("save_file", "my {a}.pth"), "--save_file 'my {a}.pth'", "save_file='my {a}.pth'"),
    ],
)
def test_a_setting_is_spelled_for_its_reader(setting, flag, argument):
    """As a flag on the command line, as an argument in Python; alone and inside a text."""
    assert (as_flag(setting), as_argument(setting)) == (flag, argument)
    text = f"lower {setting}, or not"
    assert in_flags(text) == f"lower {flag}, or not"
    assert spelled(text) == f"lower {argument}, or not"


def test_a_graph_that_breaks_its_rules_always_says_what_to_do():
    """It is our fault, and to be reported; where it is not, the error has a remedy of its own."""
    assert "please report it" in str(InvalidGraph("two nodes are called 'x'"))
    assert str(InvalidGraph("there is an op", remedy="rename it")).endswith("remedy: rename it")


def test_other_text_is_left_alone():
    """Braces, flags of other programs, ‹ without a name."""
    text = "write {1: 2}, `x`, gcc --version, ‹ › and ‹two words›"
    assert in_flags(text) == spelled(text) == text


def test_an_error_prints_in_the_words_of_python():
    """str() is what a library user sees."""
    error = UsageError(
        "too wide", where=f"layer conv1, {Setting('mode')}", remedy=f"give {Setting('delay', 0)}"
    )
    assert str(error) == "too wide (layer conv1, mode)\n  remedy: give delay=0"


@dataclass(frozen=True)
class Broken:
    """A broken limit."""

    layer: str = "conv1"
    rule: str = "in_channels"
    actual: int | str = 64
    limit: int | str = 28
    remedy: str = f"{Setting('weight_bitwidth', 1)} (limit 113)"


def test_violations_are_listed_in_the_error_itself():
    """Which layers, not only how many."""
    error = HardwareViolations("1 limit", [Broken()], remedy="change it")
    line = "conv1: in_channels is 64, the limit 28; weight_bitwidth=1 (limit 113)"
    assert str(error) == f"1 limit\n  - {line}\n  remedy: change it"


def test_a_violation_that_is_a_clause_is_one_sentence():
    """What the table of `check` spreads over its columns reads as a sentence."""
    broken = Broken("0", "pooling", "it pools the input itself", "spikes", "put a ReLU before the pooling")
    line = "0: it pools the input itself, and pooling asks for spikes; put a ReLU before the pooling"
    assert str(HardwareViolations("1 limit", [broken])) == f"1 limit\n  - {line}"


FLAGS = {key.flag for key in KEYS.values()} | {
    "overwrite",
    "resume",
    "save_dir",
    "save_file",
    "flavor",
    "strict",
}
FLAG = re.compile(r"--(?:no_)?(\w+)")


def flags_in(source: str) -> list[str]:
    """Our own flags in the strings of a source, its docstrings left out."""
    tree = ast.parse(source)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    texts = (
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
    )
    return [flag for text in texts for flag in FLAG.findall(text) if flag in FLAGS]


def test_a_flag_in_a_source_is_found():
    """The test below works: in plain strings and in f-strings, not in docstrings or for other programs."""
    assert flags_in('raise E(remedy="lower --weight_bitwidth")') == ["weight_bitwidth"]
    assert flags_in('x = f"use --no_channel_wise {y}"') == ["channel_wise"]
    assert flags_in('def f():\n    """Such as --mode."""\n    run("gcc", "--version")') == []


ROOMS = ("ir", "stages", "twins", "packs", "tasks", "data", "catalog", "workflows")


@pytest.mark.parametrize("room", [room for room in ROOMS if (PACKAGE / room).is_dir()])
def test_only_commands_name_flags(room):
    """Everywhere else a text holds the setting, and commands/ spells it."""
    files = sorted((PACKAGE / room).rglob("*.py"))
    assert files
    found = {str(path.relative_to(PACKAGE)): flags_in(path.read_text("utf-8")) for path in files}
    assert {path: flags for path, flags in found.items() if flags} == {}


def test_every_setting_that_a_text_names_exists():
    """A mistyped name would send the reader to a flag that is not there."""
    pattern = re.compile(r"""Setting\(\s*["'](\w+)["']""")
    known = {name for path in (PACKAGE / "commands").glob("*.py") for name in _options(path)}
    known |= {key.flag for key in KEYS.values()} | {"set"}
    named = {
        name: str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        for name in pattern.findall(path.read_text("utf-8"))
    }
    assert len(named) > 10
    assert {name: path for name, path in named.items() if name not in known} == {}


def _options(path: Path) -> list[str]:
    return re.findall(r"--(\w+)", path.read_text("utf-8"))
