"""scripts/parity: its list is well formed, its oracle is torch, and ours does what docs/parity.md says."""

import importlib
import sys
from pathlib import Path

import pytest
import torch

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture(scope="module")
def runners():
    """The modules beside the script, found as the script finds them."""
    sys.path.insert(0, str(SCRIPTS))
    names = ("rows", "oracle", "one", "of_ann2snn")
    yield {name: importlib.import_module(f"parity_runners.{name}") for name in names}
    sys.path.remove(str(SCRIPTS))


def test_every_row_is_known_by_its_name_and_asks_for_what_there_is(runners):
    """Names are unique, and data, uses and recipes are of those that the runners carry out."""
    rows = runners["rows"]
    listed = [row for group in rows.GROUPS.values() for row in group]
    assert len(listed) == len(rows.ROWS) > 90
    assert {row.data for row in listed} <= set(rows.DATA)
    assert {row.after for row in listed} == set(rows.AFTER)
    assert {row.transformer for row in listed} == {"", "td", "sta"}


def test_a_row_gives_the_same_network_and_samples_every_time(runners):
    """All tools are asked the same: weights and samples come from seeds."""
    oracle, row = runners["oracle"], runners["rows"].ROWS["U-Net"]
    first, second = (oracle.network_of(row)(*oracle.shown(row)) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize(("name", "relus"), [("F.relu", 2), ("one nn.ReLU used twice", 2), ("GELU", 0)])
def test_populations_are_counted_by_calls(runners, name, relus):
    """However a ReLU is written."""
    assert runners["oracle"].relus_of(runners["rows"].ROWS[name]) == relus


@pytest.mark.parametrize(("name", "outcome"), [("torch.cat", "exact"), ('mode "nonsense"', "refused")])
def test_ours_is_exact_or_refuses_with_a_reason(runners, name, outcome):
    """Two rows of docs/parity.md (B1, B7, C2), against the float network in torch."""
    row = next(row for title, row in runners["rows"].ROWS.items() if title.startswith(name))
    found = runners["one"].found(row, runners["of_ann2snn"])
    assert found.outcome == outcome, found


def test_outcomes_follow_the_rule(runners):
    """5 % above what the row allows is exact, above 50 % is wrong; ReLUs left over are not spiking."""
    outcome, row = runners["one"].outcome, runners["rows"].ROWS["nn.ReLU"]
    assert [outcome(row, excess, 1, 1) for excess in (0.05, 0.06, 0.5, 0.51)] == [
        "exact", "works", "works", "wrong",
    ]  # fmt: skip
    assert outcome(row, 0.0, 0, 1) == "not spiking"


def test_an_exception_from_inside_is_no_refusal(runners):
    """Only what a tool raises in so many words is."""

    class Careless:
        PACKAGE, DATA = "ann2snn_cli", "pairs"

        @staticmethod
        def converted(network, data, row):
            return network.no_such_layer

    found = runners["one"].found(runners["rows"].ROWS["nn.ReLU"], Careless)
    assert found.outcome == "crashed"
    assert "no_such_layer" in found.said
