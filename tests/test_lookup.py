"""Unknown names get an answer, and a user's own code runs without spoiling anything of ours."""

import sys

import pytest

from ann2snn_cli import lookup
from ann2snn_cli.errors import UnsupportedNetwork, UsageError
from ann2snn_cli.lookup import Reference


def written(folder, text, name="own.py"):
    """A reference to `build` in a file with this text."""
    path = folder / name
    path.write_text(text)
    return Reference(str(path), "build")


def test_unknown_name_lists_what_there_is_and_the_nearest():
    """A mistyped name: the nearest is suggested, also across case and hyphens, and all are listed."""
    error = lookup.unknown("network", "Mnist-CN", ["lenet", "mnist_cnn"])

    assert isinstance(error, UsageError)
    assert error.what == "unknown network 'Mnist-CN'"
    assert error.remedy == "did you mean mnist_cnn? choose from: lenet, mnist_cnn"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("net.py", ("net.py", "")),
        ("a/net.py:small", ("a/net.py", "small")),
        ("package.module:build", ("package.module", "build")),
        ("C:\\nets\\net.py", ("C:\\nets\\net.py", "")),
    ],
)
def test_split_reference(text, parts):
    """The function after the colon is told from a drive letter before it."""
    assert lookup.split_reference(text) == parts


def test_prints_of_own_code_go_to_stderr(tmp_path, capsys):
    """stdout is for results: what a user's file prints while it is imported does not get there."""
    lookup.load(written(tmp_path, "print('hello')\ndef build(): ..."), "def build()")

    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "hello\n")


def test_a_file_may_import_its_neighbours(tmp_path):
    """A file finds modules beside it, and the import path is as before afterwards."""
    (tmp_path / "neighbour_of_own.py").write_text("VALUE = 3")
    before = list(sys.path)

    built = lookup.load(written(tmp_path, "from neighbour_of_own import VALUE as build"), "build")

    assert built == 3
    assert sys.path == before


def test_a_file_does_not_replace_a_package(tmp_path):
    """A user's file called like an installed module is loaded under another name."""
    import json

    lookup.load(written(tmp_path, "def build(): ...", "json.py"), "def build()")

    assert sys.modules["json"] is json


@pytest.mark.parametrize(
    ("text", "what", "line"),
    [
        ("x = 1\nimport no_such_package", "ModuleNotFoundError: No module named 'no_such_package'", 2),
        ("x = 1\n\nx = (", "SyntaxError: '(' was never closed", 3),
        ("def f():\n    return 1 / 0\nf()", "ZeroDivisionError: division by zero", 2),
        ("import sys\nsys.exit(4)", "SystemExit: 4", 2),
    ],
)
def test_error_while_importing(tmp_path, text, what, line):
    """What a user's file raises becomes one error with its type, message, file and line."""
    with pytest.raises(UsageError) as caught:
        lookup.load(written(tmp_path, text), "def build(x)")

    assert caught.value.what == what
    assert caught.value.where == f"{tmp_path / 'own.py'}:{line}"
    assert "def build(x)" in caught.value.remedy


def test_error_deep_in_a_library_is_placed_in_the_users_file(tmp_path):
    """The line to correct is the user's, even where a library raised."""
    reference = written(tmp_path, "import json\n\ndef build():\n    return json.loads('{')\n")
    build = lookup.load(reference, "def build()")

    with (
        pytest.raises(UnsupportedNetwork) as caught,
        lookup.users_code(reference, UnsupportedNetwork, "correct it"),
    ):
        build()

    assert caught.value.where == f"{tmp_path / 'own.py'}:4"


def test_missing_function_lists_those_there_are(tmp_path):
    """A file without the function names what it has instead."""
    with pytest.raises(UsageError) as caught:
        lookup.load(written(tmp_path, "def construct(): ...\ndef _hidden(): ..."), "def build()")

    assert caught.value.what.endswith("own.py has no 'build' (it has construct)")
    assert "define def build()" in caught.value.remedy
