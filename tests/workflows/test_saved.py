"""A saved SNN: its delay may be another, its data may be named by it or by the user."""

import numpy as np
import pytest

from ann2snn_cli import pipeline
from ann2snn_cli.config import Provenance, Schedule, Settings, resolve
from ann2snn_cli.errors import BadData, UsageError
from ann2snn_cli.stages.export import pth
from ann2snn_cli.workflows import saved


@pytest.fixture
def path(small_network, small_data, training_free, tmp_path, monkeypatch):
    """mine.pth of T = 5 and D = 1, which knows nothing of where it comes from, and data that fit it."""
    monkeypatch.chdir(tmp_path)
    graph = pipeline.convert(
        small_network, small_data, training_free(timing={"timesteps": 5, "delay": 1})
    ).graph
    np.savez("data.npz", x=small_data.x.numpy(), y=small_data.y.numpy())
    np.savez("wide.npz", x=np.zeros((4, 2, 9, 9), np.float32), y=np.arange(4))
    return pth.save(graph, {}, tmp_path / "mine.pth")


@pytest.mark.parametrize(
    ("words", "delay"),
    [
        ({}, 1),
        ({"delay": 3}, 3),
        ({"schedule": Schedule.STEPWISE}, 0),
        ({"schedule": Schedule.LAYERWISE}, 5),
        ({"schedule": Schedule.LAYERWISE, "delay": 5}, 5),
    ],
)
def test_the_delay_is_its_own_unless_another_is_given(path, words, delay):
    """By number or by name."""
    assert saved.load(path, **words).graph.timing.delay == delay


@pytest.mark.parametrize("words", [{"delay": 6}, {"schedule": Schedule.STEPWISE, "delay": 1}])
def test_a_delay_that_cannot_be_is_refused(path, words):
    """T is that of the file, and a name says one number."""
    with pytest.raises(UsageError, match="the delay is"):
        saved.load(path, **words)


def test_data_that_the_file_does_not_name_must_be_given(path):
    """In words, not as a KeyError; data of another shape are refused."""
    snn = saved.load(path)
    assert snn.provenance == Provenance()
    with pytest.raises(UsageError, match="the file names no dataset"):
        snn.samples(Settings())
    given = resolve(None, [], {"data.dataset": "npz:data.npz"})
    assert snn.samples(given).input_shape == (2, 6, 6)
    with pytest.raises(BadData, match=r"\(2, 9, 9\)"):
        snn.samples(resolve(None, [], {"data.dataset": "npz:wide.npz"}))


def test_what_a_file_says_in_other_types_is_unknown():
    """A doctored provenance makes no crash later."""
    strange = {"network": 3, "dataset": ["a"], "notes": "x", "settings": None, "scores": {"a": 1}, "more": 1}
    assert Provenance.from_plain(strange) == Provenance(scores={"a": 1})
    whole = Provenance(
        "n", "d", "t", {"file": "f"}, {"a": 1}, {"b": 2}, 3, {"snn": 0.1}, ("one", "two"), "tool"
    )
    assert Provenance.from_plain(whole.to_plain()) == whole
    assert Provenance().to_plain() == {}
