"""The twins by name: each answers what is asked of a twin, names are taken once, and imports are late."""

import subprocess
import sys
from dataclasses import dataclass

import pytest

from ann2snn_cli.twins import PROGRAMS, TWINS, Simulator, register, replay
from ann2snn_cli.twins import twin as registry
from ann2snn_cli.twins.replay import Outcome


def test_the_twins_are_known_by_their_names():
    """Six ways to replay a pack; two of them are simulators of hardware, two are programs in a pack."""
    assert list(TWINS) == ["numpy", "onnx", "onnxruntime", "c", "iverilog", "verilator"]
    assert all(name == twin.name for name, twin in TWINS.items())
    assert [name for name, twin in TWINS.items() if isinstance(twin, Simulator)] == ["iverilog", "verilator"]
    assert list(PROGRAMS) == ["c", "verilog"]


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_says_whether_it_can_run_and_what_runs_it(name):
    """One line each; the reason it cannot run holds what to do about it."""
    reason = TWINS[name].unavailable()
    assert "\n" not in reason
    if not reason:
        assert any(letter.isdigit() for letter in TWINS[name].version())
        assert "\n" not in TWINS[name].version()


@dataclass(frozen=True)
class Silent:
    """A twin as somebody else would write it."""

    name: str = "silent"
    option: int = 3

    def unavailable(self):
        return ""

    def version(self):
        return "silent 1"

    def verify(self, pack, samples, work):
        return Outcome(notes=[f"{len(samples)} samples, option {self.option}"])


def test_a_further_twin_is_one_class_and_one_line(monkeypatch):
    """No other file knows of it; it is no simulator, for it counts no clocks."""
    monkeypatch.setattr(registry, "TWINS", dict(TWINS))
    register(Silent())
    assert registry.TWINS["silent"].verify(None, ["a", "b"], None).notes == ["2 samples, option 3"]
    assert not isinstance(registry.TWINS["silent"], Simulator)
    assert "silent" not in TWINS


def test_a_name_is_taken_once(monkeypatch):
    """The same twin again changes nothing; another one of the name is refused."""
    monkeypatch.setattr(registry, "TWINS", dict(TWINS))
    register(Silent(), Silent())
    with pytest.raises(ValueError, match="there is a twin called 'silent' already"):
        register(Silent(option=4))
    with pytest.raises(ValueError, match="there is a twin called 'numpy' already"):
        register(Silent(name="numpy"))


LATE = """
import sys
from ann2snn_cli.twins import TWINS
assert "numpy" not in sys.modules
assert TWINS["numpy"].unavailable() == ""
assert TWINS["numpy"].version().startswith("numpy ")
print(sorted({"onnx", "torch"} & set(sys.modules)))
"""


def test_the_numpy_twin_imports_numpy_alone():
    """Neither onnx nor torch, which take seconds; to know the names takes not even numpy."""
    done = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_numpys_version_is_that_of_the_module():
    """The class hands on what `replay.py` answers."""
    assert TWINS["numpy"].version() == replay.version()
