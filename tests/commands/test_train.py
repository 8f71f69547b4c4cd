"""`train`: the float network gets weights that `convert` finds by name, and that say where they came from."""

import json

import pytest
import torch

PROVENANCE = [
    "network", "dataset", "input_shape", "task", "classes", "test_accuracy",
    "epochs", "optimizer", "lr", "wd", "augmented", "bf16", "batch_size", "seed",
]  # fmt: skip


def test_the_document_says_what_was_trained_and_how_well(trained):
    """One JSON document: provenance, accuracies, the file."""
    document = json.loads((trained / "train.json").read_text())
    assert list(document) == ["schema", *PROVENANCE, "train_accuracy", "loss", "files"]
    assert document["schema"] == "ann2snn/train/1"
    assert (document["network"], document["dataset"]) == ("tiny", "npz:tiny.npz")
    assert (document["input_shape"], document["classes"]) == ([1, 8, 8], 3)
    assert document["test_accuracy"] > 0.8
    (file,) = document["files"]
    assert file["path"] == "checkpoints/tiny-tiny.pth"
    assert file["bytes"] == (trained / file["path"]).stat().st_size


def test_the_checkpoint_is_plain_and_holds_its_provenance(trained):
    """A state dict and plain values, read by torch's safe default."""
    content = torch.load(trained / "checkpoints/tiny-tiny.pth", weights_only=True)
    assert set(content) == {"format", "state_dict", "provenance"}
    assert list(content["provenance"]) == PROVENANCE
    assert list(content["state_dict"]) == ["0.weight", "0.bias", "4.weight", "4.bias"]


def train(ann2snn, *words):
    """One epoch of the tiny network."""
    return ann2snn("train", "./tiny.py", "--epochs", "1", "--batch_size", "32", *words)


def test_the_recipe_stands_in_the_checkpoint(tiny, ann2snn):
    """An optimizer brings its own rate and decay; augmentation and bfloat16 are said."""
    done = train(ann2snn, "--overwrite", "--optimizer", "sgd", "--augment", "--bf16")
    assert done.code == 0, done.err
    provenance = torch.load("checkpoints/tiny-tiny.pth", weights_only=True)["provenance"]
    assert {name: provenance[name] for name in ("optimizer", "lr", "wd", "augmented", "bf16")} == {
        "optimizer": "sgd", "lr": 0.1, "wd": 0.0005, "augmented": True, "bf16": True,
    }  # fmt: skip


def test_two_runs_give_the_same_bytes_and_another_seed_does_not(tiny, ann2snn):
    """Same data, same seed, same machine: same checkpoint."""
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert train(ann2snn, "--save_file", f"{name}.pth", "--seed", seed).code == 0
    first, second, third = ((tiny / f"{name}.pth").read_bytes() for name in "abc")
    assert first == second
    assert first != third


def test_a_line_an_epoch_goes_to_stderr_and_the_next_command_to_stdout(tiny, ann2snn):
    """The result says what it scored, where it lies and what to do with it."""
    done = train(ann2snn, "--overwrite")
    assert done.code == 0
    assert "epoch 1/1  loss " in done.err
    assert "next: ann2snn convert ./tiny.py --ann_weight checkpoints/tiny-tiny.pth" in done.out


def test_what_it_tells_to_do_next_works(tiny, ann2snn):
    """The command that is named runs as it stands."""
    done = train(ann2snn, "--overwrite")
    (line,) = [line for line in done.out.splitlines() if "next: ann2snn " in line]
    assert ann2snn(*line.split("ann2snn ")[1].split(), "-e", "0", "--vectors", "0").code == 0


def test_an_earlier_checkpoint_of_ours_is_replaced_and_a_foreign_file_is_not(tiny, ann2snn):
    """What somebody else wrote stays, unless --overwrite says otherwise."""
    (tiny / "mine.pth").write_bytes(b"mine")
    refused = train(ann2snn, "--save_file", "mine.pth")
    assert refused.code == 1
    assert "--overwrite" in refused.err
    assert (tiny / "mine.pth").read_bytes() == b"mine"
    assert train(ann2snn, "--save_file", "mine.pth", "--overwrite").code == 0
    assert train(ann2snn, "--save_file", "mine.pth").code == 0


@pytest.mark.parametrize(
    ("flag", "value"), [("--epochs", "0"), ("--lr", "0"), ("--wd", "-1"), ("--batch_size", "0")]
)
def test_a_value_out_of_range_is_a_usage_error(flag, value, tiny, ann2snn):
    """Nothing is trained and nothing is written."""
    done = ann2snn("train", "./tiny.py", flag, value, "--save_file", "x.pth")
    assert done.code == 2
    assert "remedy: " in done.err
    assert not (tiny / "x.pth").exists()


def test_training_that_diverges_writes_nothing_and_says_so(tiny, ann2snn):
    """A loss that is no number is an error with a remedy, not a checkpoint full of NaN."""
    done = train(ann2snn, "--lr", "1e30", "--epochs", "3", "--save_file", "x.pth")
    assert done.code == 2
    assert "diverged" in done.err
    assert "lower learning rate" in done.err
    assert not (tiny / "x.pth").exists()


def test_a_network_of_few_bits_is_not_trained(tiny, ann2snn):
    """A lower learning rate would not help it: the remedy is float32."""
    text = (tiny / "tiny.py").read_text()
    (tiny / "half.py").write_text(
        f"{text}\nfloats = build\n\ndef build(input_shape, classes):\n"
        "    return floats(input_shape, classes).half()\n"
    )
    done = ann2snn("train", "./half.py", "--epochs", "1", "--save_file", "half.pth")
    assert done.code == 1
    assert "its weights are float16" in done.err
    assert "network.float()" in done.err
    assert not (tiny / "half.pth").exists()
