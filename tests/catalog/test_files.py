"""Names and paths of networks, configs, hardware and checkpoints."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ann2snn_cli import catalog
from ann2snn_cli.errors import BadFile, UsageError

OWN = '"""My own."""\n\ndef build(input_shape, classes): ...\n'


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(path, text=OWN):
    """A file with this text, in a folder made for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_listing_needs_no_torch(here):
    """`ls` lists every kind, with its first line, without importing torch or any network."""
    put(here / "networks" / "own.py", '"""Fails when it runs."""\nraise RuntimeError\n')
    code = (
        "import sys; from ann2snn_cli import catalog, data; "
        "entries = [*catalog.list_networks(), *catalog.list_configs(), *catalog.list_hardware()]; "
        "catalog.list_checkpoints(); data.DATASETS; "
        "assert 'Fails when it runs.' in [each.description for each in entries]; "
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(catalog.__file__).parents[2])}

    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_bundled_files_are_described():
    """Every bundled network and hardware says in one line what it is."""
    entries = [*catalog.list_networks(), *catalog.list_hardware()]

    assert len(entries) > 10
    assert not [entry.name for entry in entries if not entry.description]


def test_here_comes_before_bundled(here):
    """A file in the working directory hides the bundled one of the same name, and is listed as such."""
    put(here / "networks" / "lenet.py")

    entry = next(each for each in catalog.list_networks() if each.name == "lenet")

    assert (entry.origin, entry.description) == ("here", "My own.")
    assert Path(catalog.network("lenet").path_or_module).resolve() == here / "networks" / "lenet.py"


def test_private_files_are_not_networks(here):
    """A file that starts with an underscore is a helper, not a network."""
    put(here / "networks" / "_blocks.py")

    assert "_blocks" not in [each.name for each in catalog.list_networks()]


def test_a_path_comes_before_a_name(here):
    """An existing path is taken as it is."""
    put(here / "lenet.py")

    assert catalog.network("lenet.py").path_or_module == "lenet.py"
    assert catalog.network("./lenet.py").origin == "path"


def test_a_bare_word_is_a_name_whatever_lies_about(here):
    """A folder or file without an extension called like a network does not get in its way."""
    (here / "lenet").mkdir()
    put(here / "vgg11", "not python")

    assert catalog.network("lenet").origin == "bundled"
    assert catalog.network("vgg11").origin == "bundled"


@pytest.mark.parametrize(
    ("finder", "path"),
    [
        (catalog.config_file, "configs/mine.yaml"),
        (catalog.hardware_file, "configs/hardware/mine.yaml"),
        (catalog.checkpoint_file, "checkpoints/mine.pth"),
    ],
)
def test_every_kind_goes_by_name_and_by_path(here, finder, path):
    """Configs, hardware and checkpoints are found by name in their folder, and by path."""
    put(here / path)

    assert finder("mine").resolve() == here / path
    assert finder(path) == Path(path)


def test_hardware_v1_is_bundled(here):
    """The chip of the example is found from any folder."""
    assert catalog.hardware_file("v1").name == "v1.yaml"


@pytest.mark.parametrize(
    "finder", [catalog.network, catalog.config_file, catalog.hardware_file, catalog.checkpoint_file]
)
def test_a_miss_lists_what_there_is(here, finder):
    """An unknown name is a usage error that lists the names and says what else could be given."""
    for folder, suffix in (("networks", ".py"), ("configs", ".yaml"), ("configs/hardware", ".yaml")):
        put(here / folder / f"something{suffix}")
    put(here / "checkpoints" / "something.pth")

    with pytest.raises(UsageError) as caught:
        finder("somethin")

    assert "unknown" in caught.value.what
    assert "did you mean something?" in caught.value.remedy
    assert "or give" in caught.value.remedy


@pytest.mark.parametrize(
    ("path", "what"),
    [("nets/lenet.py", "does not exist"), ("lenet.py", "does not exist"), ("./", "is a folder")],
)
def test_a_missing_path_is_no_name(here, path, what):
    """A path that is not there is refused, never replaced by a bundled file in silence."""
    with pytest.raises(UsageError) as caught:
        catalog.network(path)

    assert what in caught.value.what
    assert caught.value.remedy.startswith("correct the path")


def test_copy_gives_an_editable_file(here):
    """`cp` writes the file under its own name into the folder, with the usual rights."""
    copied = catalog.copy("example_net", here / "new")

    assert copied == here / "new" / "example_net.py"
    assert copied.read_bytes() == Path(catalog.network("example_net").path_or_module).read_bytes()
    assert os.access(copied, os.W_OK)
    assert os.listdir(here / "new") == ["example_net.py"]
    assert copied.stat().st_mode == put(here / "plain.py").stat().st_mode


def test_copy_tells_kinds_apart(here):
    """A network and a config of the same name: the extension or the folder says which."""
    put(here / "networks" / "twin.py")
    put(here / "configs" / "twin.yaml")

    assert catalog.copy("twin", here / "1").name == "twin.py"
    assert catalog.copy("twin.yaml", here / "2").name == "twin.yaml"
    assert catalog.copy("configs/twin", here / "3").name == "twin.yaml"
    assert catalog.copy("v1", here / "4").name == "v1.yaml"


def test_copy_replaces_only_when_told(here):
    """A file that is there already stays, unless overwriting is asked for."""
    put(here / "lenet.py", "edited")

    with pytest.raises(BadFile, match="there is one already") as caught:
        catalog.copy("lenet", here)
    assert "overwrite=True" in str(caught.value)
    assert (here / "lenet.py").read_text() == "edited"

    assert "LeNet" in catalog.copy("lenet", here, overwrite=True).read_text()


def test_copy_onto_itself_is_refused(here):
    """Copying a file of the working directory onto itself would destroy it."""
    put(here / "networks" / "own.py")

    with pytest.raises(UsageError, match="the file itself"):
        catalog.copy("own", here / "networks", overwrite=True)


def test_copy_of_an_unknown_name(here):
    """A miss lists the names of all kinds."""
    with pytest.raises(UsageError) as caught:
        catalog.copy("example-net", here)

    assert "did you mean example_net?" in caught.value.remedy
    assert "v1.yaml" in caught.value.remedy


def test_copy_into_what_is_no_folder(here):
    """Where nothing can be written, one error says so."""
    put(here / "file")

    with pytest.raises(Exception, match="results cannot be written there") as caught:
        catalog.copy("lenet", here / "file")
    assert caught.value.remedy == "name another folder"


def test_default_checkpoint(here):
    """NAME-DATASET.pth of ./checkpoints serves any network of that name; debug networks need none."""
    own = put(here / "networks" / "own.py")
    expected = put(here / "checkpoints" / "own-digits.pth")

    assert catalog.default_checkpoint(catalog.network("own"), "digits").resolve() == expected
    assert catalog.default_checkpoint(catalog.network(str(own)), "digits").resolve() == expected
    put(here / "checkpoints" / "debug_net0-debug0.pth")
    assert catalog.default_checkpoint(catalog.network("debug_net0"), "debug0") is None


def test_bundled_weights_are_for_bundled_networks_only(here):
    """A user's own example_net is never given the bundled weights unasked."""
    bundled = catalog.network("example_net")
    own = catalog.network(str(put(here / "example_net.py")))

    assert catalog.default_checkpoint(bundled, "digits").name == "example_net-digits.pth"
    assert catalog.default_checkpoint(catalog.network(bundled.path_or_module), "digits") is not None
    assert catalog.default_checkpoint(own, "digits") is None


@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        ("mnist", "net-mnist"),
        ("npz:../data/my arrays.npz", "net-my_arrays"),
        ("folder:/images/flowers", "net-flowers"),
        ("folder:images/flowers/", "net-flowers"),
        ("loaders/mine.py:samples", "net-mine_samples"),
        ("package.module:samples", "net-package_module_samples"),
    ],
)
def test_a_checkpoint_is_called_after_network_and_dataset(dataset, name):
    """Also where the dataset is a file, a folder or a function: its name can stand in a file's name."""
    assert catalog.checkpoint_name("net", dataset) == name
