"""Tables: as wide as a terminal at most, whole lines in a log."""

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


def test_a_log_gets_whole_lines(monkeypatch):
    """Where there is no terminal nothing is folded, however long it is."""
    monkeypatch.delenv("COLUMNS", raising=False)
    assert table(HEADERS, ROWS).splitlines() == [
        "layer   spikes  remedy",
        "------  ------  ---------------------------------------------------------------",
        "conv1       12  raise the number of timesteps, or lower the bits of the weights",
        "conv22       -  -",
    ]


def test_on_a_terminal_the_widest_words_are_folded(monkeypatch):
    """Below each other in their column."""
    monkeypatch.setenv("COLUMNS", "48")
    assert table(HEADERS, ROWS).splitlines() == [
        "layer   spikes  remedy",
        "------  ------  --------------------------------",
        "conv1       12  raise the number of timesteps,",
        "                or lower the bits of the weights",
        "conv22       -  -",
    ]


@pytest.mark.parametrize("width", [30, 40, 60, 79, 200])
def test_no_line_is_wider_and_no_word_is_lost(monkeypatch, width):
    """Columns that do not fit beside each other stand below each other, with the first one repeated."""
    headers = ["layer", *(f"rule_{number}" for number in range(7))]
    rows = [[f"layer{number}", *range(number * 1000, number * 1000 + 7)] for number in range(3)]
    monkeypatch.delenv("COLUMNS", raising=False)
    whole = table(headers, rows)
    monkeypatch.setenv("COLUMNS", str(width))
    found = table(headers, rows)
    assert max(map(len, found.splitlines())) <= width
    parts = found.split("\n\n")
    assert [part.split()[0] for part in parts] == ["layer"] * len(parts)
    assert set(words(found)) == set(words(whole))
    assert (len(parts) == 1) == (width >= max(map(len, whole.splitlines())))


def test_a_table_without_rows_is_its_headings(monkeypatch):
    """Nothing to fold."""
    monkeypatch.setenv("COLUMNS", "20")
    assert table(["name", "what"], []).splitlines() == ["name  what", "----  ----"]
