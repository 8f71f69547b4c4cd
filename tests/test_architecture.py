"""Imports point one way, stages never import each other, and a third-party library has one home.

commands -> workflows -> catalog, data, devices -> pipeline -> stages -> config -> ir -> tasks -> trees, types
-> claims -> errors -> packs -> twins (CONTRIBUTING.md); stages are handed a task's loss and metric

`breaches` reads the source of one file; the tests run it over the package, and over planted breaches.
"""

import ast
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "ann2snn_cli"

# A room may import from its own level (but a stage only from itself) and from those below it.
LEVELS = [
    {"commands", "__main__", "__init__"},
    {"snn", "by_stage", "transformer"},  # the Python API
    {"workflows"},  # use cases: what commands and the Python API call
    {"catalog", "data", "devices"},
    {"pipeline"},
    {"stages"},
    {"config"},
    {"ir"},
    {"tasks"},  # what labels mean
    {"lookup"},  # running a user's own file: knows names and paths only
    {"downloads"},  # files from an address
    {"trees"},
    {"types"},
    {"claims"},  # what files claim, held against their size
    {"errors", "version", "words"},
    {"packs"},  # what is done with a vector pack beside replaying it: knows what twins read
    {"twins"},  # independent of all of ours: what they agree on, they did not copy
]

# Rooms below that a room does without all the same: it is handed what it needs of them.
HANDED = {"config": {"tasks"}, "ir": {"tasks"}, "stages": {"tasks"}}

# Where a library may be imported, by path below the package.
HOMES = {
    "click": ["commands/*", "__main__.py"],
    "tqdm": ["commands/*"],
    "yaml": ["config/*"],
    "nir": ["stages/export/nir/*"],
    "onnx": ["stages/export/onnx/*", "stages/trace/onnx/*", "twins/onnx/*"],
    "matplotlib": ["stages/analyse/*"],
    "GPUtil": ["devices.py"],
    "triton": ["stages/simulate/triton/kernel.py"],
    "torch.export": ["stages/trace.py", "stages/trace/*", "stages/simulate/exported.py"],
    "sklearn": ["data.py", "data/*"],
    "torchvision": ["data.py", "data/*"],
    "pycocotools": ["tasks/average_precision.py"],
}


def breaches(path: str, source: str) -> list[str]:
    """What is wrong with the imports of a file; `path` is relative to the root of the checkout."""
    imported = list(_imports(path, ast.parse(source)))
    found = [f"{path} imports {name}: it is found by file" for name in imported if _head(name) in _BY_FILE]
    if path.startswith("networks/"):
        strangers = [name for name in imported if _head(name) not in {"torch", *sys.stdlib_module_names}]
        return found + [f"{path} imports {name}: networks are plain torch" for name in strangers]
    inside = path.removeprefix(f"{PACKAGE}/")
    for name in imported:
        if _head(name) == PACKAGE:
            found += _wrong_way(inside, name)
        for library, homes in HOMES.items():
            at_home = any(fnmatch(inside, home) for home in homes)
            if f"{name}.".startswith(f"{library}.") and not at_home:
                found.append(f"{path} imports {name}: its home is {' or '.join(homes)}")
    return found


_BY_FILE = {"networks", "configs", "checkpoints"}


def _wrong_way(inside: str, name: str) -> list[str]:
    parts = name.split(".")
    room = parts[1] if len(parts) > 1 else "__init__"
    own_room = Path(inside).parts[0].removesuffix(".py")
    if _level(own_room) > _level(room):
        return [f"{inside} imports {name}: imports point the other way"]
    if room in HANDED.get(own_room, ()):
        return [f"{inside} imports {name}: {own_room} is handed what it needs of {room}"]
    if own_room == room == "stages" and len(parts) > 2:
        own_stage = Path(inside).parts[1].removesuffix(".py")
        if own_stage != parts[2]:
            return [f"{inside} imports {name}: stages never import each other"]
    return []


def _level(room: str) -> int:
    levels = [level for level, rooms in enumerate(LEVELS) if room in rooms]
    assert levels, f"{room} is no room of the house: give it a level in this test and in CONTRIBUTING.md"
    return levels[0]


def _imports(path: str, tree: ast.Module) -> Iterator[str]:
    """Dotted names of all that is imported, at the top or inside functions, absolutely."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(path, node)
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute) and ast.unparse(node) == "torch.export":
            yield "torch.export"  # `import torch` gives it without a further import


def _absolute(path: str, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    package = Path(path).parts[: -node.level]
    return ".".join([*package, *([node.module] if node.module else [])])


def _head(name: str) -> str:
    return name.partition(".")[0]


def test_the_package_keeps_its_own_rules():
    """No file of the package or of networks/ breaks a rule."""
    files = sorted((ROOT / PACKAGE).rglob("*.py"))
    networks = sorted((ROOT / "networks").glob("*.py"))
    assert len(files) > 20
    assert len(networks) > 5
    paths = [path.relative_to(ROOT).as_posix() for path in files + networks]
    found = [breach for path in paths for breach in breaches(path, (ROOT / path).read_text(encoding="utf-8"))]
    assert not found, "\n".join(found)


def test_what_is_found_by_file_is_no_package():
    """networks/ and configs/ hold no __init__.py: nothing called `networks` may be importable."""
    assert not [name for name in _BY_FILE if (ROOT / name / "__init__.py").exists()]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("ann2snn_cli/ir/run.py", "from ann2snn_cli.stages import fold"),
        ("ann2snn_cli/ir/run.py", "from ann2snn_cli.config import Settings"),
        ("ann2snn_cli/ir/run.py", "from .. import config"),
        ("ann2snn_cli/errors.py", "from ann2snn_cli.ir.graph import Graph"),
        ("ann2snn_cli/packs/diff.py", "from ann2snn_cli.errors import BadFile"),
        ("ann2snn_cli/twins/c.py", "from ann2snn_cli.packs import diff"),
        ("ann2snn_cli/twins/c.py", "from ann2snn_cli.errors import BadFile"),
        ("ann2snn_cli/config/settings.py", "import ann2snn_cli.pipeline"),
        ("ann2snn_cli/stages/fold.py", "def f():\n    from ann2snn_cli import data"),
        ("ann2snn_cli/stages/fold.py", "from ann2snn_cli.stages.trace import trace"),
        ("ann2snn_cli/stages/fold.py", "from ann2snn_cli.stages import trace"),
        ("ann2snn_cli/stages/fold.py", "from . import trace"),
        ("ann2snn_cli/stages/quantize/weights.py", "from ..fold import fold"),
        ("ann2snn_cli/stages/train.py", "from ann2snn_cli.tasks import task_named"),
        ("ann2snn_cli/tasks/classification.py", "from ann2snn_cli.ir.graph import Graph"),
        ("ann2snn_cli/trees.py", "from ann2snn_cli.tasks import Task"),
        ("ann2snn_cli/pipeline.py", "from ann2snn_cli.commands.render import note"),
        ("ann2snn_cli/pipeline.py", "import ann2snn_cli"),  # the public names stand above the rooms
        ("ann2snn_cli/workflows/convert.py", "from ann2snn_cli.commands.flags import as_flag"),
        ("ann2snn_cli/workflows/convert.py", "import ann2snn_cli.snn"),
        ("ann2snn_cli/pipeline.py", "from ann2snn_cli.workflows.report import Report"),
        ("ann2snn_cli/catalog/files.py", "from ann2snn_cli.__main__ import main"),
        ("ann2snn_cli/stages/fold.py", "import click"),
        ("ann2snn_cli/data.py", "import tqdm.auto"),
        ("ann2snn_cli/stages/simulate/plain.py", "from torch.export import export"),
        ("ann2snn_cli/stages/simulate/plain.py", "import torch\ntorch.export.export(1)"),
        ("ann2snn_cli/stages/simulate/plain.py", "from torch import export"),
        ("ann2snn_cli/stages/export/pth.py", "import onnx.helper"),
        ("ann2snn_cli/stages/export/pth.py", "import nir"),
        ("ann2snn_cli/commands/analyse_error.py", "from matplotlib import pyplot"),
        ("ann2snn_cli/commands/env.py", "import GPUtil"),
        ("ann2snn_cli/stages/train.py", "from torchvision import transforms"),
        ("ann2snn_cli/stages/train.py", "import sklearn.datasets"),
        ("ann2snn_cli/catalog/files.py", "from networks import example_net"),
        ("ann2snn_cli/catalog/files.py", "import configs"),
        ("networks/mine.py", "from ann2snn_cli import ir"),
        ("networks/mine.py", "import torchvision"),
        ("networks/mine.py", "import numpy as np"),
    ],
)
def test_a_planted_breach_is_found(path, source):
    """The checker itself works: each of these is one breach or more."""
    assert breaches(path, source)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("ann2snn_cli/commands/ls.py", "import click\nfrom ann2snn_cli import catalog, data"),
        ("ann2snn_cli/commands/cp.py", "from ann2snn_cli.commands.render import emit"),
        ("ann2snn_cli/data.py", "import torchvision, sklearn\nfrom ann2snn_cli.errors import BadData"),
        ("ann2snn_cli/pipeline.py", "from ann2snn_cli.stages import fold, trace"),
        ("ann2snn_cli/stages/quantize/finetune.py", "from ann2snn_cli.stages.quantize.weights import grid"),
        ("ann2snn_cli/stages/quantize/__init__.py", "from .weights import grid"),
        ("ann2snn_cli/stages/train.py", "from ann2snn_cli import trees\nfrom ann2snn_cli.types import Loss"),
        ("ann2snn_cli/data/samples.py", "from ann2snn_cli.tasks import task_named"),
        ("ann2snn_cli/stages/trace/program.py", "import torch\ntorch.export.export(1)"),
        ("ann2snn_cli/stages/trace.py", "import onnxscript_is_another_package"),
        ("ann2snn_cli/stages/export/nir/library.py", "import nir\nfrom ann2snn_cli.ir import graph"),
        ("networks/mine.py", "from collections import OrderedDict\nfrom torch import nn"),
    ],
)
def test_an_allowed_import_is_no_breach(path, source):
    """The checker does not cry wolf."""
    assert not breaches(path, source)
