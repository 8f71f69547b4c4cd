"""Few bits are reached by way of more: which epochs have how many, and that training follows."""

import pytest

from ann2snn_cli.config.recipes import Decay
from ann2snn_cli.stages.quantize.finetune import Finetuning
from ann2snn_cli.stages.quantize.phases import Phase, in_words, phases


@pytest.mark.parametrize(
    ("bits", "epochs", "expected"),
    [
        (1, 20, [(8, 2), (4, 2), (2, 2), (1, 14)]),
        (2, 20, [(8, 4), (4, 4), (2, 12)]),
        (1, 5, [(4, 1), (2, 1), (1, 3)]),
        (1, 3, [(2, 1), (1, 2)]),
        (1, 2, []),  # too few
        (1, 0, []),
        (3, 100, []),
        (32, 100, []),
    ],
)
def test_which_epochs_have_how_many_bits(bits, epochs, expected):
    """Two fifths of the epochs on the way, shared equally; more than 2 bits need none."""
    found = phases(bits, epochs)

    assert [(each.bits, each.epochs) for each in found] == expected
    assert [each.first for each in found] == [
        sum(number for _, number in expected[:place]) for place in range(len(expected))
    ]


def test_the_way_in_words():
    """As a note says it."""
    assert in_words(phases(1, 20)) == "finetuning: 2 epochs each at 8, 4 and 2 bits, then 14 at 1 bit"
    assert in_words(phases(1, 3)) == "finetuning: 1 epoch at 2 bits, then 2 at 1 bit"


@pytest.mark.parametrize("schedule", list(Decay))
def test_the_rate_falls_at_the_networks_own_bits(schedule):
    """On the way it stays as it is at first."""
    way = (Phase(2, 0, 2), Phase(1, 2, 4))
    recipe, alone = (
        Finetuning(epochs, 0.1, schedule=schedule, phases=way[: epochs - 4]) for epochs in (6, 4)
    )

    assert [recipe.lr_at(epoch) for epoch in (0, 1)] == [0.1, 0.1]
    assert [recipe.lr_at(2 + epoch) for epoch in range(4)] == [alone.lr_at(epoch) for epoch in range(4)]
    assert [recipe.bits_at(epoch) for epoch in range(6)] == [2, 2, 1, 1, 1, 1]
    assert alone.bits_at(3) is None
