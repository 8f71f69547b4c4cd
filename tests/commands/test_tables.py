"""Tables: as wide as a terminal at most, whole lines in a log."""

import sys

import pytest

from ann2snn_cli.commands.tables import table

HEADERS = ["layer", "spikes", "remedy"]
ROWS = [
    ["conv1", 12, "raise the number of timesteps, or lower the bits of the weights"],
    ["conv22", None, "-"],
]


def words(text):
    """All words, wherever they stand."""
    return sorted(text.replace("-", " ").split())


@pytest.fixture
def terminal(monkeypatch):
    """A terminal of so many columns, or with None none; whatever a shell says of another."""

    def become(columns):
        monkeypatch.setattr(sys.stdout, "isatty", lambda: columns is not None)
        monkeypatch.setenv("COLUMNS", str(columns or 10))

    return become


def test_a_log_gets_whole_lines(terminal):
    """Where there is no terminal nothing is folded, however long it is."""
    terminal(None)
    assert table(HEADERS, ROWS).splitlines() == [
        "layer   spikes  remedy",
        "------  ------  ---------------------------------------------------------------",
        "conv1       12  raise the number of timesteps, or lower the bits of the weights",
        "conv22       -  -",
    ]


def test_on_a_terminal_the_widest_words_are_folded(terminal):
    """Below each other in their column."""
    terminal(48)
    assert table(HEADERS, ROWS).splitlines() == [
        "layer   spikes  remedy",
        "------  ------  --------------------------------",
        "conv1       12  raise the number of timesteps,",
        "                or lower the bits of the weights",
        "conv22       -  -",
    ]


@pytest.mark.parametrize("width", [30, 40, 60, 79, 200])
def test_no_line_is_wider_and_no_word_is_lost(terminal, width):
    """Columns that do not fit beside each other stand below each other, with the first one repeated."""
    headers = ["layer", *(f"rule_{number}" for number in range(7))]
    rows = [[f"layer{number}", *range(number * 1000, number * 1000 + 7)] for number in range(3)]
    terminal(None)
    whole = table(headers, rows)
    terminal(width)
    found = table(headers, rows)
    assert max(map(len, found.splitlines())) <= width
    parts = found.split("\n\n")
    assert [part.split()[0] for part in parts] == ["layer"] * len(parts)
    assert set(words(found)) == set(words(whole))
    assert (len(parts) == 1) == (width >= max(map(len, whole.splitlines())))


def test_a_table_without_rows_is_its_headings(terminal):
    """Nothing to fold."""
    terminal(20)
    assert table(["name", "what"], []).splitlines() == ["name  what", "----  ----"]
