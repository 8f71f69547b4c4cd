"""`simulate`: a converted network runs from its file alone: accuracy against time, firing rates."""

import pytest

from ann2snn_cli.errors import VerificationMismatch

FIELDS = {
    "schema", "snn", "dataset", "test_samples", "schedule", "timesteps", "accuracy", "accuracy_by_step",
    "latency_steps", "latency", "firing_rate", "spikes_per_sample",
}  # fmt: skip


@pytest.fixture
def converted(tiny, ann2snn):
    """A converted tiny network, and the document of its conversion."""
    done = ann2snn("convert", "./tiny.py", "-e", "0", "-T", "6", "--json")
    assert done.code == 0, done.err
    return done.document


def test_it_finds_what_the_conversion_found(converted, ann2snn):
    """Same accuracies, same rates, on the dataset that the file names."""
    document = ann2snn("simulate", "tiny_snn.pth", "--json").document
    assert set(document) == FIELDS
    assert document["schema"] == "ann2snn/simulate/1"
    assert document["dataset"] == "npz:tiny.npz"
    accuracy = converted["accuracy"]
    assert document["accuracy"] == {name: accuracy[name] for name in ("quantized", "stepwise", "layerwise")}
    for name in ("firing_rate", "spikes_per_sample", "latency", "test_samples", "timesteps"):
        assert document[name] == converted[name]


def test_accuracy_against_time_ends_at_the_accuracy(converted, ann2snn):
    """One number a step, in the schedule that is shown."""
    for schedule in ("stepwise", "layerwise"):
        document = ann2snn("simulate", "tiny_snn.pth", "--schedule", schedule, "--json").document
        assert len(document["accuracy_by_step"]) == 6
        assert document["accuracy_by_step"][-1] == document["accuracy"][schedule]
        assert document["schedule"] == schedule


def test_other_batches_change_nothing(converted, ann2snn):
    """A result does not depend on how many samples go together."""
    one = ann2snn("simulate", "tiny_snn.pth", "--test_batch_size", "1", "--json").document
    assert one == ann2snn("simulate", "tiny_snn.pth", "--json").document


def test_the_text_has_the_curve_and_the_rates(converted, ann2snn):
    """What a person reads."""
    done = ann2snn("simulate", "tiny_snn.pth")
    assert done.code == 0
    assert "tiny_snn.pth on npz:tiny.npz: 30 test samples, stepwise, 6 timesteps" in done.out
    for said in ("step  accuracy", "firing rate", "spikes a sample"):
        assert said in done.out


def test_other_data_of_the_same_shape_may_be_given(converted, tiny, ann2snn):
    """--dataset."""
    (tiny / "tiny.npz").rename(tiny / "other.npz")
    assert ann2snn("simulate", "tiny_snn.pth").code == 1
    assert ann2snn("simulate", "tiny_snn.pth", "--dataset", "npz:other.npz").code == 0


def test_a_mismatch_of_the_twins_is_exit_code_4(converted, ann2snn, monkeypatch):
    """The proof is made again on the user's machine, and a failure of it is no ordinary error."""

    def disagree(graph, result):
        raise VerificationMismatch("they differ", remedy="report it")

    monkeypatch.setattr("ann2snn_cli.pipeline.refuse_mismatch", disagree)
    assert ann2snn("simulate", "tiny_snn.pth").code == 4
