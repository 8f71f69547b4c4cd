"""Words that every part of the tool forms in the same way."""

import pytest

from ann2snn_cli.words import count_of


@pytest.mark.parametrize(
    ("number", "words"), [(0, "0 samples"), (1, "1 sample"), (2, "2 samples"), (1797, "1,797 samples")]
)
def test_one_thing_has_no_plural(number, words):
    """A count with its noun, as a reader expects it."""
    assert count_of(number, "sample") == words
