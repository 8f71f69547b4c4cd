"""The list of scripts/parity is well formed, and ours runs what it says."""

import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture(autouse=True)
def _scripts(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(SCRIPTS), *sys.path])


def test_every_row_has_a_name_of_its_own_and_outputs_in_eager_torch():
    """The oracle answers each with one row of finite numbers a sample."""
    from parity_runners import oracle
    from parity_runners.rows import GROUPS, ROWS

    assert len(ROWS) == sum(map(len, GROUPS.values())) > 100
    for name in ("nn.ReLU", "two inputs", "two outputs, a dict", "T = 1", "LayerNorm", "U-Net"):
        for wanted in oracle.wanted(ROWS[name]):
            assert wanted.shape[0] == ROWS[name].samples
            assert bool(wanted.isfinite().all())


@pytest.mark.parametrize(
    ("name", "outcome"),
    [("nn.ReLU6", "exact"), ("T = 1", "exact"), ("weights of one bit", "exact"), ("LayerNorm", "exact")],
)
@pytest.mark.filterwarnings("ignore::ann2snn_cli.DamageWarning")
def test_ours_runs_a_row(name, outcome):
    """Each is held against eager torch, as all rows are by the script."""
    from parity_runners import of_ann2snn, one
    from parity_runners.rows import ROWS

    found = one.found(ROWS[name], of_ann2snn)
    assert (found.outcome, found.said) == (outcome, "")
    assert found.error < one.EXACT
