"""Names: what nobody knows is refused before torch is imported, and a shell completes the others."""

import os
import subprocess
import sys

import pytest

CONVERT = ("convert", "example_net")


def python(code, *words, **environment):
    """A fresh interpreter, which has imported nothing."""
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("convert", "exampel_net"), "unknown network 'exampel_net'"),
        (("inspect", "no_such_net"), "unknown network 'no_such_net'"),
        ((*CONVERT, "--dataset", "mnits"), "unknown dataset 'mnits'"),
        ((*CONVERT, "--hardware", "v7"), "unknown hardware 'v7'"),
        ((*CONVERT, "--ann_weight", "nothing"), "unknown checkpoint 'nothing'"),
        ((*CONVERT, "--mode", "median"), "calibrate.mode is median"),
    ],
)
def test_a_mistyped_name_is_answered_without_torch(words, said):
    """In the time that Python takes to start, and with a remedy."""
    code = (
        "import sys; from ann2snn_cli.__main__ import main\n"
        "code = main(sys.argv[1:]); print(code, 'torch' in sys.modules)"
    )
    done = python(code, *words)
    assert done.stdout.split() == ["2", "False"]
    assert said in done.stderr
    assert "remedy:" in done.stderr


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("ann2snn convert exam", ["example_net"]),
        ("ann2snn convert example_net --dataset mn", ["mnist"]),
        ("ann2snn check example_net --hardware v", ["v1"]),
        ("ann2snn convert example_net --ann_weight tutorial", ["tutorial_cnn-digits"]),
        ("ann2snn convert example_net --reset_mode ", ["subtraction", "zero"]),
        ("ann2snn convert example_net --mode m", ["max", "mse", "match"]),
        ("ann2snn compare-m", ["compare-modes"]),
    ],
)
def test_a_shell_completes(typed, offered):
    """Commands, names and words, without torch."""
    code = (
        "import sys; from ann2snn_cli.__main__ import main\n"
        "try: main([])\n"
        "finally: assert 'torch' not in sys.modules"
    )
    words = typed.split(" ")
    asked = {"COMP_WORDS": typed, "COMP_CWORD": str(len(words) - 1), "_ANN2SNN_COMPLETE": "bash_complete"}
    done = python(code, **asked)
    assert [line.removeprefix("plain,") for line in done.stdout.split()] == offered, done.stderr


def test_a_path_is_completed_by_the_shell_itself():
    """Where no name begins so."""
    typed = "ann2snn convert ./my"
    asked = {"COMP_WORDS": typed, "COMP_CWORD": "2", "_ANN2SNN_COMPLETE": "bash_complete"}
    done = python("from ann2snn_cli.__main__ import main; main([])", **asked)
    assert done.stdout.split() == ["file,./my"]
