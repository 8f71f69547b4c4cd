"""`simulate`: a converted network runs from its file alone: accuracy against time, firing rates."""

import json
import re

import pytest
import torch

from ann2snn_cli.errors import VerificationMismatch
from ann2snn_cli.stages.export import pth

FIELDS = {
    "schema", "snn", "dataset", "delay", "schedule", "timesteps", "test_samples", "metric",
    "higher_is_better", "accuracy",
    "scores", "accuracy_by_step", "layerwise_differs_from_quantized", "latency_steps", "latency",
    "firing_rate", "spikes_per_sample", "engine", "engine_reason", "own_delay", "notes", "encoding",
    "layerwise_largest_difference", "theorem_exception",
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
    assert list(document["accuracy"]) == ["quantized", "stepwise", "layerwise"]
    assert document["accuracy"]["stepwise"] == accuracy["stepwise"]
    for name in ("firing_rate", "spikes_per_sample", "latency", "test_samples", "timesteps"):
        assert document[name] == converted[name]


def test_test_samples_bound_what_is_evaluated(converted, ann2snn):
    """By `convert` and by `simulate`, the same samples: the same scores."""
    simulated = ann2snn("simulate", "tiny_snn.pth", "--test_samples", "5", "--json").document
    words = ("--test_samples", "5", "--save_file", "few_snn.pth")
    few = ann2snn("convert", "./tiny.py", "-e", "0", "-T", "6", *words, "--json").document

    assert simulated["test_samples"] == few["test_samples"] == 5 < converted["test_samples"]
    assert simulated["scores"]["stepwise"] == few["scores"]["stepwise"]
    assert simulated["firing_rate"] == few["firing_rate"]


def test_accuracy_against_time_ends_at_the_accuracy(converted, ann2snn):
    """One number a step, at the delay that is asked for, by name or by number."""
    for flag, value, name in (
        ("--schedule", "stepwise", "stepwise"),
        ("--schedule", "layerwise", "layerwise"),
        ("--delay", "6", "layerwise"),
        ("--delay", "2", "delay_2"),
    ):
        document = ann2snn("simulate", "tiny_snn.pth", flag, value, "--json").document
        assert len(document["accuracy_by_step"]) == 6
        assert document["accuracy_by_step"][-1] == document["accuracy"][name]
        assert document["schedule"] == name
    assert list(document["accuracy"]) == ["quantized", "stepwise", "layerwise", "delay_2"]


def test_it_says_whose_biases_the_other_delays_run_with(tiny, ann2snn):
    """The file holds one network: that of the delay it was converted for."""
    words = ("convert", "./tiny.py", "-e", "0", "-T", "6", "--vectors", "0", "--delay", "1")
    assert ann2snn(*words).code == 0
    (note,) = ann2snn("simulate", "tiny_snn.pth", "--delay", "4", "--json").document["notes"]
    assert note.startswith(
        "the SNN was converted for a delay of 1 (delay_1), and its biases were corrected for that: at other"
    )
    assert "converted for another delay (--delay)" in note
    assert f"note: {note}" in ann2snn("simulate", "tiny_snn.pth").out
    assert ann2snn(*words, "--no_bias_correction").code == 0
    document = ann2snn("simulate", "tiny_snn.pth", "--delay", "4", "--json").document
    assert "its biases were corrected for no delay" in document["notes"][0]
    assert (document["delay"], document["own_delay"]) == (4, 1)


def test_a_delay_that_cannot_be_is_refused(converted, ann2snn):
    """More than the T of the file, or a name that says another number."""
    for words, said in (
        (("--delay", "7"), "the delay is 7; it must be a whole number from 0 to 6"),
        (("--delay", "2", "--schedule", "layerwise"), "the delay is 2, and the schedule layerwise"),
    ):
        done = ann2snn("simulate", "tiny_snn.pth", *words)
        assert (done.code, said in done.err) == (2, True)
    done = ann2snn("simulate", "tiny_snn.pth", "--delay", "7")
    assert "or convert the network anew with more --timesteps" in done.err  # simulate has no such flag


def test_an_engine_that_knows_one_delay_alone_runs_that(converted, ann2snn):
    """`counts` runs D = T, and what ran the rest is said; at D = 0 it is refused with the flag that helps."""
    document = ann2snn("simulate", "tiny_snn.pth", "--engine", "counts", "--delay", "6", "--json").document
    assert document["engine"] == "counts"
    assert "fused ran D = 0, which counts cannot" in document["engine_reason"]
    done = ann2snn("simulate", "tiny_snn.pth", "--engine", "counts")
    assert (done.code, "give --engine auto, or --delay 6" in done.err) == (2, True)


def test_a_conversion_says_what_its_engine_could_not_do(tiny, ann2snn):
    """A pack holds every spike, and `counts` knows none: another engine records it, and is named."""
    words = ("-e", "0", "-T", "6", "--engine", "counts", "--schedule", "layerwise", "--vectors", "1")
    done = ann2snn("convert", "./tiny.py", *words, "--json")
    assert (done.code, done.document["engine"]) == (0, "counts"), done.err
    notes = "\n".join(done.document["notes"])
    assert "engine fused recorded the vector pack; counts cannot: " in notes


def test_an_engine_may_be_asked_for(converted, ann2snn):
    """And is named in the report; one that does not exist is answered with those that do."""
    document = ann2snn("simulate", "tiny_snn.pth", "--engine", "reference", "--json").document
    assert (document["engine"], document["engine_reason"]) == ("reference", "it was asked for")
    done = ann2snn("simulate", "tiny_snn.pth", "--engine", "refrence")
    assert (done.code, "did you mean reference?" in done.err) == (2, True)


def test_other_batches_change_nothing(converted, ann2snn):
    """A result does not depend on how many samples go together."""
    one = ann2snn("simulate", "tiny_snn.pth", "--test_batch_size", "1", "--json").document
    all_together = ann2snn("simulate", "tiny_snn.pth", "--json").document
    for variant, scores in one.pop("scores").items():  # a mean loss is rounded batch by batch
        assert scores == pytest.approx(all_together["scores"][variant])
    del all_together["scores"]
    assert one == all_together


def test_the_text_has_the_curve_and_the_rates(converted, ann2snn):
    """What a person reads."""
    done = ann2snn("simulate", "tiny_snn.pth")
    assert done.code == 0
    assert "tiny_snn.pth on npz:tiny.npz: 30 test samples, 6 timesteps, delay 0" in done.out
    for said in ("step  accuracy", "firing rate", "spikes a sample"):
        assert said in done.out


def test_other_data_of_the_same_shape_may_be_given(converted, tiny, ann2snn):
    """--dataset."""
    (tiny / "tiny.npz").rename(tiny / "other.npz")
    assert ann2snn("simulate", "tiny_snn.pth").code == 2
    assert ann2snn("simulate", "tiny_snn.pth", "--dataset", "npz:other.npz").code == 0


def test_other_data_than_it_was_converted_for_are_named_in_a_note(converted, tiny, ann2snn):
    """In the text and in the document; the same data by another path give none."""
    said = "the SNN was converted for npz:tiny.npz, and is run on npz:other.npz"
    (tiny / "other.npz").write_bytes((tiny / "tiny.npz").read_bytes())
    words = ("simulate", "tiny_snn.pth", "--dataset")
    assert f"note: {said}" in ann2snn(*words, "npz:other.npz").out
    assert said in ann2snn(*words, "npz:other.npz", "--json").document["notes"]
    assert "was converted for npz" not in ann2snn(*words, "npz:./tiny.npz").out


def test_an_edited_snn_is_run_with_a_note(converted, tiny, ann2snn):
    """By whatever command reads it; not where it is as it was written, nor where it holds no hash."""
    commands = (("simulate",), ("inspect",), ("export", "--samples", "1"), ("verify", "--backend", "numpy"))
    said, path = "the file was changed since ann2snn wrote it", tiny / "tiny_snn.pth"
    written = path.read_bytes()
    seal = re.search(rb"file_sha256: [0-9a-f]{64}$", written)[0]
    content = torch.load(path, weights_only=True)
    next(node for node in content["nodes"] if node["fields"].get("bias") is not None)["fields"]["bias"][
        0
    ] += 1
    edited = pth.as_bytes(content)[: -len(seal)] + seal
    for held, count in ((written, 0), (edited, 1)):
        path.write_bytes(held)
        for name, *words in commands:
            done = ann2snn(name, "tiny_snn.pth", *words)
            assert done.code == 0, done.err
            assert done.out.count(said) == count, name
            assert (
                len(
                    [
                        n
                        for n in ann2snn(name, "tiny_snn.pth", *words, "--json").document["notes"]
                        if said in n
                    ]
                )
                == count
            )
    torch.save(content, path)
    assert said not in ann2snn("simulate", "tiny_snn.pth").out


def test_a_mismatch_of_the_twins_is_exit_code_4(converted, ann2snn, monkeypatch):
    """The proof is made again on the user's machine, and a failure of it is no ordinary error."""

    def disagree(graph, result):
        raise VerificationMismatch("they differ", remedy="report it")

    monkeypatch.setattr("ann2snn_cli.workflows.simulate.refuse_mismatch", disagree)
    assert ann2snn("simulate", "tiny_snn.pth").code == 4


def test_simulate_takes_a_seed_for_spikes_by_chance(example, ann2snn, in_folder):
    """The same seed gives the same scores; where nothing is drawn a seed is refused."""
    with in_folder(example[0]):
        words = ("simulate", "example_net_snn.pth", "--test_samples", "60", "--json")
        found = [
            json.loads(ann2snn(*words, "--encoding", "poisson", "--seed", seed).out)["scores"]["stepwise"]
            for seed in ("1", "1", "2")
        ]
        refused = ann2snn(*words, "--seed", "1")
    assert found[0] == found[1] != found[2]
    assert refused.code == 2
    assert "--seed 1 does nothing" in refused.err
