"""Networks of one's own: every way to name one, and every way it can go wrong."""

import pytest
import torch

from ann2snn_cli import catalog
from ann2snn_cli.errors import UnsupportedNetwork, UsageError

GOOD = """
from torch import nn

DATASET = "npz:mine.npz"
HARDWARE: str = "v1"

def build(input_shape, classes):
    return nn.Linear(input_shape[0], classes)

def wide(input_shape, classes):
    return nn.Linear(input_shape[0], 2 * classes)

class Net(nn.Linear):
    def __init__(self, in_features=4, num_classes=10):
        super().__init__(in_features, num_classes)

ready = nn.Linear(4, 4)
def plain():
    return nn.Linear(4, 5)
def strange(width, depth):
    return nn.Linear(width, depth)
number = 3
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder with `mynet_of_tests.py`, which is also the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mynet_of_tests.py").write_text(GOOD)
    return "mynet_of_tests.py"


def test_what_a_file_says_is_read_without_running_it(tmp_path):
    """DATASET, HARDWARE and TRAINED are read from a file that cannot even be imported."""
    path = tmp_path / "net.py"
    path.write_text("DATASET = 'mnist'\nTRAINED = True\nraise RuntimeError\n")

    spec = catalog.network(str(path))

    assert (spec.name, spec.dataset, spec.hardware, spec.trained) == ("net", "mnist", "", True)


@pytest.mark.parametrize(
    ("suffix", "name", "outputs"),
    [
        ("", "mynet_of_tests", 6),
        (":wide", "wide", 12),
        (":Net", "Net", 6),
        (":ready", "ready", 4),
        (":plain", "plain", 5),
    ],
)
def test_ways_to_name_a_builder(own, suffix, name, outputs):
    """The file's build, another function, a class with num_classes, a finished network, a plain factory."""
    spec = catalog.network(own + suffix)
    network = spec.build((4,), 6)

    assert (spec.name, spec.dataset, spec.hardware, spec.origin) == (name, "npz:mine.npz", "v1", "path")
    assert network(torch.zeros(1, 4)).shape == (1, outputs)


@pytest.mark.parametrize(
    ("text", "name"), [("mynet_of_tests:build", "mynet_of_tests"), ("mynet_of_tests:wide", "wide")]
)
def test_package_module_builder(own, text, name):
    """A module of the working directory, or an installed one, is named with dots."""
    spec = catalog.network(text)

    assert (spec.name, spec.dataset, spec.origin) == (name, "npz:mine.npz", "module")
    assert isinstance(spec.build((4,), 6), torch.nn.Linear)


def test_builder_of_a_bundled_network():
    """NAME:function takes another function of a known file."""
    spec = catalog.network("debug_net0:build")

    assert (spec.name, spec.origin, spec.trained) == ("debug_net0", "bundled", True)


def test_a_finished_network_is_copied(own):
    """Building twice gives two networks: training one leaves the other alone."""
    spec = catalog.network("mynet_of_tests:ready")
    first, second = spec.build((4,), 4), spec.build((4,), 4)

    assert first.weight.data_ptr() != second.weight.data_ptr()


@pytest.mark.parametrize(
    ("suffix", "what", "remedy"),
    [
        (":strange", "strange asks for width, depth", "write def build"),
        (":number", "number is a int, not a function", "define def build"),
        (":nothing", "has no 'nothing'", "define def build"),
    ],
)
def test_builders_that_cannot_be_called(own, suffix, what, remedy):
    """A builder that asks for something else is told what it is called with."""
    with pytest.raises(UsageError) as caught:
        catalog.network(own + suffix).build((4,), 6)

    assert what in caught.value.what
    assert remedy in caught.value.remedy


def test_error_in_the_builder(tmp_path):
    """What a builder raises becomes one error: type, message, file, line, and what it was called with."""
    path = tmp_path / "net.py"
    path.write_text("def build(input_shape, classes):\n    c, h, w = input_shape\n")

    with pytest.raises(UnsupportedNetwork) as caught:
        catalog.network(str(path)).build((4,), 6)

    assert caught.value.what == "ValueError: not enough values to unpack (expected 3, got 1)"
    assert caught.value.where == f"{path}:2"
    assert caught.value.remedy == "build must work when it is called with input_shape=(4,), classes=6"


def test_builder_that_returns_no_network(tmp_path):
    """A forgotten return is named."""
    path = tmp_path / "net.py"
    path.write_text("def build(input_shape, classes):\n    pass\n")

    with pytest.raises(UsageError, match=r"build gave a NoneType, not a torch\.nn\.Module"):
        catalog.network(str(path)).build((4,), 6)


def test_file_that_is_no_python(tmp_path):
    """A syntax error is placed by its line before anything runs."""
    path = tmp_path / "net.py"
    path.write_text("x = 1\ndef build(:\n")

    with pytest.raises(UsageError) as caught:
        catalog.network(str(path))

    assert caught.value.where == f"{path}:2"


@pytest.mark.parametrize(
    ("line", "word"), [("DATASET = 3", "a name in quotes"), ("TRAINED = 'yes'", "True or False")]
)
def test_constants_of_the_wrong_type(tmp_path, line, word):
    """A constant that cannot be used is refused with the form it should have."""
    path = tmp_path / "net.py"
    path.write_text(f"\n{line}\n")

    with pytest.raises(UsageError, match=f"must be {word}") as caught:
        catalog.network(str(path))
    assert caught.value.where == f"{path}:2"


@pytest.mark.parametrize("text", ["no_such_module:build", "no_such.module:build", "json.no_such:build"])
def test_module_that_is_not_there(text):
    """A module that cannot be found is a usage error with the ways out."""
    with pytest.raises(UsageError) as caught:
        catalog.network(text)

    assert "No module named" in caught.value.what or "there is no module" in caught.value.what
    assert "install it" in caught.value.remedy
