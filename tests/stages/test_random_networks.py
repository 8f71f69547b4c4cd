"""A sample of scripts/search_branches: no network is ruined by few bits without a word."""

import pytest
from random_networks import judged


@pytest.mark.parametrize("first", range(0, 60, 10))
def test_eight_bits_ruin_no_network_silently(first):
    """It stays near the float network, or the damage report says so and names a layer."""
    verdicts = [judged(seed)[0] for seed in range(first, first + 10)]

    assert "bad, and SILENT" not in verdicts
    assert verdicts.count("fine") >= 3, "most of these networks should say something"


def test_eight_bits_ruin_no_network_of_torchs_own_forms_silently():
    """The same where half of the nodes are what the rules make of torch operators."""
    verdicts = [judged(seed, forms=True)[0] for seed in range(20)]

    assert "bad, and SILENT" not in verdicts
    assert verdicts.count("fine") >= 10


def test_one_bit_ruins_some_and_every_one_is_said():
    """The search can fail: with 1-bit weights there are bad ones, and the report has all of them."""
    verdicts = [judged(seed, bits=1)[0] for seed in range(30)]

    assert verdicts.count("bad, and said") >= 5
    assert "bad, and SILENT" not in verdicts
