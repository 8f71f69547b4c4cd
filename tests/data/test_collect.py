"""Whatever users hold as data: the same samples in every form give the same conversion."""

import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, WeightedRandomSampler

import ann2snn_cli
from ann2snn_cli import BadData, UsageError, data
from ann2snn_cli.data.collect import collect

pytestmark = pytest.mark.filterwarnings("ignore::ann2snn_cli.snn.DamageWarning")

X = torch.rand(24, 1, 6, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(24) % 3
FREE = {"timesteps": 2}


@pytest.fixture(scope="module")
def network():
    """A small network of random weights."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3)).eval()


class Stream(IterableDataset):
    """Samples one after the other, without a length."""

    def __iter__(self):
        """All of them."""
        return iter(zip(X, Y, strict=True))


PAIRS = list(zip(X.split(5), Y.split(5), strict=True))
EVERY_FORM = {
    "a tensor": X,
    "a numpy array": X.double().numpy(),
    "an array that cannot be written to": np.broadcast_to(X.numpy(), X.shape),
    "a pair": (X, Y),
    "a pair of arrays and a list": (X.numpy(), Y.tolist()),
    "a list of tensors": list(X.split(5)),
    "a list of pairs": PAIRS,
    "a list of lists": [list(pair) for pair in PAIRS],
    "a generator": (pair for pair in PAIRS),
    "a Dataset": TensorDataset(X, Y),
    "a Dataset without labels": TensorDataset(X),
    "an IterableDataset": Stream(),
    "a DataLoader": DataLoader(TensorDataset(X, Y), batch_size=5),
    "a shuffling DataLoader": DataLoader(TensorDataset(X, Y), batch_size=5, shuffle=True),
    "a DataLoader of a stream": DataLoader(Stream(), batch_size=7),
}


@pytest.mark.parametrize("form", EVERY_FORM)
def test_the_same_samples_in_every_form_give_the_same_network(form, network):
    """C1: Calibration sees all of them: the outputs are those of a conversion on the tensor, bit for bit."""
    wanted = ann2snn_cli.convert(network, X, **FREE)(X)

    assert torch.equal(ann2snn_cli.convert(network, EVERY_FORM[form], **FREE)(X), wanted)


def test_several_inputs_by_name_or_in_order():
    """B7: Batches of dicts, pairs of a tuple and labels."""

    class Sum(nn.Module):
        def forward(self, a, b):
            return torch.relu(a) + torch.relu(b)

    a, b = X.flatten(1), 2 * X.flatten(1)
    by_name = [{"a": a[:9], "b": b[:9]}, {"a": a[9:], "b": b[9:]}]
    in_order = DataLoader([((u, v), int(label)) for u, v, label in zip(a, b, Y, strict=True)], batch_size=4)
    outputs = [ann2snn_cli.convert(Sum(), given, **FREE)(a, b) for given in (by_name, in_order)]
    assert torch.equal(*outputs)


@pytest.mark.parametrize("pack", [tuple, lambda pair: [tuple(pair)]], ids=["pair", "list of pairs"])
def test_nested_lists_of_samples_and_a_list_of_labels_are_a_pair(pack, network):
    """Numbers that are written out mean what the tensors mean."""
    outputs = [
        ann2snn_cli.convert(network, pack(pair), **FREE)(X) for pair in ((X.tolist(), Y.tolist()), (X, Y))
    ]
    assert torch.equal(*outputs)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "None"),
        ("mnist", "of type str"),
        (7, "of type int"),
        (nn.ReLU(), "of type ReLU"),
        ([None], "None"),
        (["a"], "of type str"),
        (np.array([None]), "an array of object"),
    ],
)
def test_what_is_no_data_is_a_type_error_that_names_what_is(given, said, network):
    """Also a UsageError, as all our words about arguments."""
    with pytest.raises(TypeError, match=said) as caught:
        ann2snn_cli.convert(network, given)
    assert isinstance(caught.value, UsageError)
    assert "a torch Dataset; or a DataLoader" in caught.value.remedy


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "holds no batch"),
        ([X, X[:0]], "batch 1: x is empty"),
        ([X, Y], "batch 1: x is int64"),
        ([X, X[:, :, 1:]], r"batch 0 and batch 1 differ in shape: \(1, 6, 6\) and \(1, 5, 6\)"),
        ([(X, Y), X], "of batch 0 and batch 1 only one has labels"),
        ((X, Y, Y), "a tuple of 3"),
        ((X, Y[:5]), "24 samples in x and 5 labels"),
        ((X, nn.functional.one_hot(Y).float()), r"y\.argmax\(1\)"),
        ((X, Y.float()), r"y\.long\(\)"),
        ((X, Y[:, None]), r"y\.flatten\(\)"),
        ((X, Y - 1), "label -1"),
        (X.permute(0, 2, 3, 1).repeat(1, 1, 1, 3).numpy(), r"x\.transpose\(0, 3, 1, 2\)"),
        ((255 * X).long(), "x is int64"),
        (X / 0, "NaN or infinite"),
        (TensorDataset(X[:0]), "the Dataset is empty"),
        (X.to_sparse(), "x cannot be used: it is sparse"),
        (X.to("meta"), "x cannot be used: it holds no values"),
        ((X, Y.to("meta")), "labels cannot be used: it holds no values"),
    ],
)
def test_data_that_cannot_be_used_say_why(given, said, network):
    """The batch, what is wrong with it and what to write."""
    with pytest.raises(BadData, match=said):
        ann2snn_cli.convert(network, given)


class Items(Dataset):
    """The same item again and again."""

    def __init__(self, item):
        super().__init__()
        self.item = item

    def __len__(self):
        """Six."""
        return 6

    def __getitem__(self, index):
        """The item, whatever it is; a function makes it of the index."""
        return self.item(index) if callable(self.item) else self.item


@pytest.mark.parametrize(
    ("given", "said", "remedy"),
    [
        ([None], "batch 0: x is None", r"as in \[\(x\[:100\], labels\[:100\]\)"),
        ([(X, Y, Y)], r"batch 0 is a tuple of 3 \(a tensor \[24, 1, 6, 6\], ", r"\[\(each\[0\], each\[1\]\)"),
        ([{"image": X, "label": Y}], r"x\['label'\]", r"\[\(each\['image'\], each\['label'\]\) for each"),
        ([("a.png", "cat")], "of type str", "the number of the class"),
        ([(X, ["cat"] * 24)], r"labels is a list of 24 \(of type str \('cat'\)", "the number of the class"),
        ([[[0.5, 1.0], [0.5]]], "x is a list whose parts differ in length", "cut or pad"),
        ([(x, int(y)) for x, y in zip(X, Y, strict=True)], "a single sample and its label", "DataLoader"),
        ("mnist", "of type str", r"data\.load"),
        (Items(None), "NoneType", r"\(x, label\)"),
        (Items((X[0], 1, 2)), "a list of 3", r"\(x, labels\)"),
        (Items({"image": X[0], "label": 1}), r"x\['label'\]", r"each\['image'\], each\['label'\]"),
        (Items(("a.png", 1)), "of type str", "the number of the class"),
        (Items((X[0], "cat")), r"a tuple of 1 \(of type str \('cat'\)\)", "the number of the class"),
        (
            Items(lambda index: (torch.zeros(1, 6, 6 + index), 0)),
            "items of the Dataset differ in shape",
            "cut or pad",
        ),
    ],
)
def test_what_no_batch_is_made_of_is_named_with_an_example(given, said, remedy, network):
    """From a list, a Dataset or a DataLoader: what was yielded, and what to yield instead."""
    for each in (given, DataLoader(given, batch_size=2)) if isinstance(given, Items) else (given,):
        with pytest.raises((BadData, UsageError), match=said) as caught:
            ann2snn_cli.convert(network, each)
        assert re.search(remedy, caught.value.remedy)


def test_a_dict_of_inputs_with_nan_is_not_taken_for_labels(network):
    """The remedy is about what is wrong."""
    with pytest.raises(BadData, match="NaN or infinite") as caught:
        ann2snn_cli.convert(network, {"input": X / 0})
    assert "nan_to_num" in caught.value.remedy


class Images(Dataset):
    """PIL images, as torchvision's datasets give them without a transform."""

    def __len__(self):
        """Two."""
        return 2

    def __getitem__(self, index):
        """An image and its label."""
        from PIL import Image

        return Image.new("L", (6, 6)), index


@pytest.mark.parametrize("given", [Images(), DataLoader(Images()), [Images()[0]]])
def test_images_that_are_no_tensors_get_the_transform_that_makes_them(given, network):
    """The commonest mistake with torchvision's datasets."""
    with pytest.raises((BadData, UsageError)) as caught:
        ann2snn_cli.convert(network, given)
    assert "ToTensor()" in caught.value.remedy


def test_an_error_in_a_users_own_dataset_is_said_to_be_theirs(network):
    """What a transform raises is no fault of this tool."""

    def broken():
        yield X
        raise KeyError("label")

    with pytest.raises(BadData, match="reading the data raised KeyError: 'label'"):
        ann2snn_cli.convert(network, broken())


def test_bytes_mean_fractions_in_data_and_in_a_run(network):
    """uint8 images are x / 255 for both, and the conversion notes it."""
    images = (X * 255).byte()
    snn = ann2snn_cli.convert(network, images, timesteps=8)

    assert torch.equal(snn(images), snn(images.float() / 255))
    assert "uint8 samples are taken as fractions of 255" in snn.provenance.notes


UNLABELLED = [X, [X[:8], X[8:]], (x for x in X.split(4)), TensorDataset(X), DataLoader(TensorDataset(X))]


@pytest.mark.parametrize("given", UNLABELLED)
def test_samples_without_labels_are_never_trained_on(given, network):
    """In no form: they would all be trained towards class 0."""
    with pytest.raises(UsageError, match=r"without labels|can be read once"):
        ann2snn_cli.convert(network, given, finetune_epochs=1)


def test_a_list_of_batches_trains_as_a_loader_does(network):
    """Each epoch reads all of it; a generator can be read once only, and is refused."""
    for given in (PAIRS, DataLoader(TensorDataset(X, Y), batch_size=8), Stream()):
        snn = ann2snn_cli.convert(network, given, finetune_epochs=2, finetune_lr=0.1)
        assert not torch.equal(snn(X), ann2snn_cli.convert(network, X)(X))
    with pytest.raises(UsageError, match="the generator can be read once"):
        ann2snn_cli.convert(network, (pair for pair in PAIRS), finetune_epochs=1)


def test_no_more_is_read_than_calibration_asks_for(network):
    """A stream without an end is read as far as `calibration_samples`."""
    read = []

    def endless():
        while True:
            read.append(len(read))
            yield X[:4]

    snn = ann2snn_cli.convert(network, endless(), calibration_samples=10, **FREE)

    assert len(read) == 3
    assert snn.provenance.notes[0] == "calibrated on the first 10 samples of the generator"


def test_a_loader_that_shuffles_gives_the_same_calibration_again_and_takes_no_random_numbers():
    """Drawn by our seed, from the loader's own dataset; the report says where they came from."""
    loaders = {
        "calibrated on 8 of 24 samples, drawn from the Dataset by seed 3": DataLoader(
            TensorDataset(X, Y), batch_size=4, shuffle=True
        ),
        "calibrated on the first 8 samples of a DataLoader in its own order": DataLoader(
            TensorDataset(X, Y), batch_size=4, sampler=WeightedRandomSampler([1.0] * 24, 24)
        ),
    }
    for note, loader in loaders.items():
        before = torch.get_rng_state()
        drawn = []
        for _ in range(2):
            samples = collect(loader, samples=8, seed=3)
            drawn.append(torch.cat([x for x, _ in samples.calibration_batches(8, 8, 3)]))
            torch.manual_seed(9)
        assert torch.equal(*drawn)
        assert note in samples.notes
        torch.set_rng_state(before)
        collect(loader, samples=8, seed=3)
        assert torch.equal(torch.get_rng_state(), before)


def test_a_loader_with_workers_gives_the_same_samples(network):
    """Its own number of processes reads the dataset."""
    loader = DataLoader(TensorDataset(X, Y), batch_size=4, num_workers=1)
    wanted = ann2snn_cli.convert(network, X, **FREE)(X)

    assert torch.equal(ann2snn_cli.convert(network, loader, **FREE)(X), wanted)


def test_a_label_that_the_network_has_no_score_for_is_refused(network):
    """Where it would be trained on: the label, and how many scores there are."""
    with pytest.raises(BadData, match="label 4 is out of range: the output has 3 scores"):
        ann2snn_cli.convert(network, (X, Y + 2), finetune_epochs=1, **FREE)


# path.py:loader ------------------------------------------------------------------------------------

BODIES = {
    "two loaders": "DataLoader(TensorDataset(x[:20], y[:20])), DataLoader(TensorDataset(x[20:], y[20:]), 3)",
    "two datasets": "TensorDataset(x[:20], y[:20]), TensorDataset(x[20:], y[20:])",
    "two pairs": "(x[:20], y[:20]), (x[20:].numpy(), y[20:].numpy())",
    "by name": "{'train': [(x[:20], y[:20])], 'test': iter([(x[20:22], y[20:22]), (x[22:], y[22:])])}",
}
WHOLE = {
    "a loader": "DataLoader(TensorDataset(x, y), 5)",
    "a dataset": "TensorDataset(x, y)",
    "a pair": "x, y",
    "a list of batches": "[(x[:3], y[:3]), (x[3:], y[3:])]",
}


def loader(tmp_path, body):
    """The dataset that a loader with this body gives."""
    head = "import torch\nfrom torch.utils.data import DataLoader, TensorDataset\n"
    lines = "x, y = torch.arange(25.).reshape(25, 1, 1, 1), torch.arange(25) % 4"
    (tmp_path / "mine.py").write_text(f"{head}{lines}\n\ndef samples():\n    return {body}\n")
    return data.load(f"{tmp_path / 'mine.py'}:samples")


@pytest.mark.parametrize("form", BODIES)
def test_a_loader_gives_train_and_test(form, tmp_path):
    """Each half in any of the kinds."""
    loaded = loader(tmp_path, BODIES[form])

    assert (loaded.train_size, loaded.test_size, loaded.classes, loaded.input_shape) == (20, 5, 4, (1, 1, 1))
    tested = [(x.flatten().tolist(), y.tolist()) for x, y in loaded.test_batches(9)]
    assert tested == [([20.0, 21.0, 22.0, 23.0, 24.0], [0, 1, 2, 3, 0])]


@pytest.mark.parametrize("form", WHOLE)
def test_a_loader_without_a_test_set_is_split(form, tmp_path):
    """80 to 20 %, always the same way, with its labels; and it is said."""
    loaded = loader(tmp_path, WHOLE[form])
    wanted = data.samples.split_indices(25, "")[1].tolist()

    ((x, y),) = loaded.test_batches(9)
    assert x.flatten().tolist() == wanted
    assert y.tolist() == [value % 4 for value in wanted]
    assert "20 samples to train on, 5 to test (80 to 20 %, always the same ones)" in loaded.notes


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("None", "the data are None"),
        ("x", "the samples have no labels"),
        ("TensorDataset(x), TensorDataset(x)", "train: the samples have no labels"),
        ("{'a': x, 'b': x}", "the samples have no labels"),
        ("x, y, y", "a tuple of 3"),
    ],
)
def test_a_loader_gone_wrong_names_itself(body, said, tmp_path):
    """What it gave, which function gave it, and what it may give."""
    with pytest.raises((BadData, UsageError), match=said) as caught:
        loader(tmp_path, body)
    assert "mine.py:samples" in caught.value.where
    assert caught.value.remedy


def test_a_loader_may_say_mean_and_std(tmp_path):
    """C1: beside its splits; the network is given (x - mean) / std."""
    (tmp_path / "own.py").write_text(
        "import torch\n"
        "def load():\n"
        "    x, y = torch.arange(24.).reshape(12, 2, 1, 1), torch.arange(12) % 3\n"
        "    return {'train': (x[:8], y[:8]), 'test': (x[8:], y[8:]), 'mean': [1, 2], 'std': 4}\n"
    )
    loaded = data.load(f"{tmp_path / 'own.py'}:load")
    ((x, _),) = loaded.test_batches(8)
    assert x[0].flatten().tolist() == [(16 - 1) / 4, (17 - 2) / 4]


@pytest.mark.parametrize(
    ("scale", "what"),
    [
        ("'std': 0", "std is not above 0"),
        ("'mean': [1, 2, 3]", "mean has 3 values, and the samples 2 channels"),
        ("'mean': 'white'", "mean is no number"),
        ("'mean': float('nan')", "mean has 1 value"),
    ],
)
def test_a_scale_that_makes_no_sense(scale, what, tmp_path):
    """It is refused where it was given."""
    (tmp_path / "own.py").write_text(
        "import torch\n"
        "def load():\n"
        f"    return {{'train': (torch.rand(10, 2, 1, 1), torch.arange(10) % 2), {scale}}}\n"
    )
    with pytest.raises(BadData, match=what):
        data.load(f"{tmp_path / 'own.py'}:load")
