"""Arrays of one's own: .npz files and loaders."""

import numpy as np
import pytest
import torch

from ann2snn_cli import data
from ann2snn_cli.errors import BadData, UsageError

X = np.arange(40, dtype=np.uint8).reshape(10, 2, 2)
Y = np.arange(10) % 3


@pytest.mark.parametrize("given", ["None", "'x'", "(1, 2, 3)", "__import__('numpy').zeros((4, 2, 2))"])
def test_what_a_loader_gives_is_bad_data_of_whatever_kind(tmp_path, given):
    """Nothing, a word, three of something, samples without labels: all the same error, exit code 1."""
    (tmp_path / "own.py").write_text(f"def load():\n    return {given}\n")
    with pytest.raises(BadData) as caught:
        data.load(f"{tmp_path}/own.py:load")
    assert caught.value.exit_code == 1


@pytest.fixture
def path(tmp_path):
    """Where the test's arrays go."""
    return tmp_path / "mine.npz"


def load(path):
    """The dataset in this file."""
    return data.load(f"npz:{path}")


def test_x_and_y_are_split(path):
    """x and y: 80 % to train on; grey images without a channel axis get one; bytes become fractions."""
    np.savez(path, x=X, y=Y)

    loaded = load(path)

    assert (loaded.input_shape, loaded.classes) == ((1, 2, 2), 3)
    assert (loaded.train_size, loaded.test_size) == (8, 2)
    for x, y in loaded.test_batches(2):
        first = (x[:, 0, 0, 0] * 255).round().int()
        assert torch.equal(first // 4 % 3, y.int())


def test_two_splits(path):
    """x_train, y_train, x_test, y_test are taken as they are; floats stay as they are."""
    x = X[:, None].astype(np.float64) - 7.5
    np.savez(path, x_train=x[:6], y_train=Y[:6], x_test=x[6:], y_test=Y[6:])

    given, labels = next(load(path).test_batches(4))

    assert given.dtype == torch.float32
    assert given.flatten().tolist() == (np.arange(24, 40) - 7.5).tolist()
    assert labels.tolist() == Y[6:].tolist()


def test_classes_may_be_named(path):
    """`classes` tells how many there are where the samples do not show all of them."""
    np.savez(path, x=X, y=Y, classes=10)

    assert load(path).classes == 10


def test_wrong_keys(path):
    """A file with other arrays says which it has and which it should have."""
    for arrays, said in (({"x": X, "labels": Y}, "x, labels"), ({"y": Y}, "y"), ({}, "nothing")):
        np.savez(path, **arrays)

        with pytest.raises(BadData, match=rf"it holds {said} \(") as caught:
            load(path)
        assert "x_train, y_train, x_test and y_test" in caught.value.remedy
        assert caught.value.where == str(path)


def test_one_input_may_have_any_name(path):
    """Samples alone need no name: they are the network's one input."""
    np.savez(path, images=X, y=Y)

    assert load(path).input_shape == (1, 2, 2)


VECTORS = np.arange(30, dtype=np.float32).reshape(10, 3) - 8


def test_several_inputs_go_by_their_names(path):
    """Each as the file has it, the same samples of all in a split, beside their labels."""
    np.savez(path, image=X[:, None], vector=VECTORS, y=Y)

    loaded = load(path)

    assert loaded.input_shapes == {"image": (1, 2, 2), "vector": (3,)}
    assert (loaded.classes, loaded.train_size, loaded.test_size) == (3, 8, 2)
    places = []
    for batches in (loaded.train_batches(3, 0, 0), loaded.test_batches(3)):
        for x, y in batches:
            place = ((x["vector"][:, 0] + 8) / 3).long()
            assert torch.equal(
                (x["image"].flatten(1) * 255).round().long(), torch.tensor(X).flatten(1)[place]
            )
            assert torch.equal(y, torch.tensor(Y)[place])
            places += place.tolist()
    assert sorted(places) == list(range(10))


def test_several_inputs_in_two_splits(path):
    """NAME_train and NAME_test of each; what belongs to neither split is left alone."""
    parts = {"train": slice(6), "test": slice(6, None)}
    arrays = {f"vector_{part}": VECTORS[which] for part, which in parts.items()}
    arrays |= {f"x1_{part}": X[which] for part, which in parts.items()}
    arrays |= {f"y_{part}": Y[which] for part, which in parts.items()}
    np.savez(path, **arrays, x1_val=X)

    loaded = load(path)

    assert loaded.input_shapes == {"vector": (3,), "x1": (2, 2)}
    assert (loaded.train_size, loaded.test_size) == (6, 4)
    given, labels = next(loaded.test_batches(4))
    assert torch.equal(given["vector"], torch.tensor(VECTORS[6:]))
    assert labels.tolist() == Y[6:].tolist()


def test_an_input_that_one_split_lacks_is_refused(path):
    """A typo would train on one input more than it tests."""
    np.savez(path, x_train=X, y_train=Y, x_test=X, y_test=Y, vector_tran=VECTORS, vector_test=VECTORS)

    with pytest.raises(BadData, match="it holds vector_test without vector_train") as caught:
        load(path)
    assert caught.value.remedy == "save every array for both splits"


def test_an_input_of_another_length_is_named(path):
    """One of several: which, and what arrays are taken for."""
    np.savez(path, image=X, vector=VECTORS[:9], y=Y)

    with pytest.raises(
        BadData, match=r"x\['vector'\] and y differ in length: \(9, 3\) and \(10,\)"
    ) as caught:
        load(path)
    assert "every array but y and classes is an input of the network" in caught.value.remedy


def test_lengths_differ(path):
    """A label too few is refused."""
    np.savez(path, x=X, y=Y[:9])

    with pytest.raises(BadData, match="differ in length"):
        load(path)


def test_pickled_objects_are_refused(path):
    """Object arrays would run code when they are loaded."""
    np.savez(path, x=np.array([{}, 1], dtype=object), y=Y)

    with pytest.raises(BadData, match="pickled objects"):
        load(path)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04nonsense"])
def test_no_npz_file(path, content):
    """A file of another kind is refused."""
    path.write_bytes(content)

    with pytest.raises(BadData, match=r"damaged, or no \.npz file"):
        load(path)


def test_npy_file(tmp_path):
    """A .npy file holds one array without a name."""
    np.save(tmp_path / "x.npy", X)

    with pytest.raises(BadData, match=r"no \.npz file"):
        load(tmp_path / "x.npy")


def test_missing_npz(path):
    """A file that is not there is said to be not there."""
    with pytest.raises(BadData, match="does not exist"):
        load(path)


def test_no_path():
    """`npz:` alone is a usage error."""
    with pytest.raises(UsageError, match="names no path"):
        data.load("npz:")


def loader(tmp_path, body):
    """A file with this loader; its name as a dataset."""
    (tmp_path / "mine.py").write_text(f"import numpy as np\nimport torch\n\ndef samples():\n    {body}\n")
    return f"{tmp_path / 'mine.py'}:samples"


def test_own_loader_of_arrays(tmp_path):
    """A function that gives four arrays or tensors is a dataset."""
    body = "return np.zeros((4, 8, 8), np.uint8), [0, 1, 2, 3], torch.ones(2, 1, 8, 8), np.array([1, 0])"
    loaded = data.load(loader(tmp_path, body))

    assert (loaded.input_shape, loaded.classes, loaded.train_size, loaded.test_size) == ((1, 8, 8), 4, 4, 2)


def test_own_loader_of_data(tmp_path):
    """A function may give a Data of its own making."""
    body = "from ann2snn_cli import data; return data.load('debug0')"

    assert data.load(loader(tmp_path, body)).input_shape == (1, 4, 4)
    assert isinstance(data.load("debug0"), data.Data)


def test_own_loader_of_another_task(tmp_path):
    """A Data with two inputs by name, labels in a dict, and a task of the user's own."""
    body = """from ann2snn_cli.data.samples import from_tensors
    class Ranking:
        name = headline = "ranking"
        def count_classes(self, labels, most):
            return 0
    split = {"user": torch.ones(4, 3), "item": torch.ones(4, 5)}, {"rank": torch.rand(4)}
    return from_tensors("pairs", split, split, task=Ranking())"""

    loaded = data.load(loader(tmp_path, body))

    assert (loaded.input_shapes, loaded.task.name) == ({"user": (3,), "item": (5,)}, "ranking")


def test_own_loader_in_a_module(tmp_path, monkeypatch):
    """A module of the working directory is named with a colon, too."""
    loader(tmp_path, "return torch.ones(2, 3), [0, 1], torch.ones(2, 3), [0, 1]")
    (tmp_path / "mine.py").rename(tmp_path / "module_of_this_test.py")
    monkeypatch.chdir(tmp_path)

    assert data.load("module_of_this_test:samples").input_shape == (3,)


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("return 1 / 0", "ZeroDivisionError: division by zero"),
        ("return torch.ones(2, 3), [0]", "2 samples in x and 1 labels"),
        ("return {}", "x is a dict that holds more than tensors, or none"),
        ("return 'a', [0], 'b', [0]", "x_train is no array of numbers"),
        ("return torch.ones(2, 3), [0, 1], torch.ones(2, 3), [0]", "test: 2 samples in x and 1 labels"),
    ],
)
def test_own_loader_gone_wrong(tmp_path, body, what):
    """Whatever a loader does wrong is one error that names it."""
    with pytest.raises(BadData, match=what) as caught:
        data.load(loader(tmp_path, body))
    assert "mine.py" in caught.value.where
    assert caught.value.remedy


def test_missing_loader_file():
    """A path that is not there is a usage error."""
    with pytest.raises(UsageError, match="does not exist"):
        data.load("no/such.py:loader")
