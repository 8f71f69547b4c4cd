"""Export: the .pth round trip, and how anything reaches the disk: whole or not at all."""

import fcntl
import hashlib
import os
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from torch import nn

from ann2snn_cli.errors import BadFile
from ann2snn_cli.ir.contract import Contract, Reset, Rounding
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.ops import (
    OPS,
    Add,
    AvgPool,
    BatchNorm,
    BatchSize,
    Concat,
    Conv,
    Gather,
    Input,
    Integrate,
    IntegrateFire,
    Linear,
    MaxPool,
    Opaque,
    Permute,
    Ref,
    Relu,
    Reshape,
    Scale,
)
from ann2snn_cli.stages.export import files, pth
from ann2snn_cli.stages.simulate import simulate


def whole(*values: int) -> torch.Tensor:
    """Integers, as a chip is loaded with."""
    return torch.tensor(values if len(values) > 1 else values[0], dtype=torch.int64)


def small(timesteps: int = 4, threshold: int = 300) -> Graph:
    """input 1x2x2 -> conv 1->2 -> neurons -> flatten -> linear -> read-out."""
    weight = torch.tensor([3, -2], dtype=torch.int8).reshape(2, 1, 1, 1)
    last = torch.arange(-4, 4, dtype=torch.int8).reshape(1, 8).repeat(2, 1)
    unit = torch.tensor(0.5)
    return Graph(
        (
            Node("input", Input(unit=1 / 255), (), (1, 2, 2), "", torch.tensor(1 / 255)),
            Node("conv", Conv(weight, bits=3, step=unit), ("input",), (2, 2, 2), "conv", unit),
            Node(
                "fire",
                IntegrateFire(whole(threshold), whole(5), whole(150)),
                ("conv",),
                (2, 2, 2),
                "a/b c",
                unit,
            ),
            Node("flat", Reshape(), ("fire",), (8,), "", unit),
            Node("linear", Linear(last, bits=4, step=unit), ("flat",), (2,), "linear", unit),
            Node("readout", Integrate(whole(1, 2), whole(0, 3)), ("linear",), (2,), "linear", unit),
        ),
        ("readout",),
        Level.SPIKING,
        Contract(timesteps),
    )


def of_every_op() -> Graph:
    """One node of each op that a file can hold, with every field set to something of its own."""
    unit, image = torch.tensor(0.25), (2, 4, 4)
    code = torch.ones(2, 2, 2, 2, dtype=torch.int8)
    up = Conv(code, None, (2, 2), (1, 1), (1, 1), 1, True, (1, 1), bits=2, step=unit)
    branches = Linear(whole(*[6] * 4, *[1] * 4).repeat(3, 1), bits=2, multiplier=whole(*[6] * 4, *[1] * 4))
    deep = Conv(torch.ones(2, 1, 1, 1, dtype=torch.int8), groups=2, bits=1, step=torch.tensor([0.1, 0.2]))
    gelu = Opaque("aten.gelu.default", (Ref(0),), (("approximate", "tanh"),))
    view = Opaque(
        "aten.view.default", (Ref(0), (BatchSize(1, 0), 2, (4, torch.arange(3)), None, True, 0.5)), (), 1
    )
    ops = [
        ("deep", deep, ("input",), image),
        ("up", up, ("deep",), image),
        ("scale", Scale(torch.tensor([[[1]], [[3]]]), bits=3, step=unit), ("up",), image),
        ("fire", IntegrateFire(whole(9, 8).reshape(2, 1, 1), whole(1), whole(4), 3), ("scale",), image),
        ("twice", Add((whole(1), whole(2))), ("fire", "fire"), image),
        ("both", Concat(), ("fire", "fire"), (4, 4, 4)),
        ("mean", AvgPool((2, 2), (2, 2), (0, 0)), ("fire",), (2, 2, 2)),
        ("most", MaxPool((3, 3), (2, 2), (1, 1), (1, 1), True), ("fire",), (2, 2, 2)),
        ("turned", Permute((2, 0, 1)), ("most",), (2, 2, 2)),
        ("picked", Gather(torch.tensor([[0, -1, 3]])), ("most",), (1, 3)),
        ("flat", Reshape(), ("most",), (8,)),
        ("linear", branches, ("flat",), (3,)),
        ("readout", Integrate(None, whole(2)), ("linear",), (3,)),
        ("gelu", gelu, ("most",), (2, 2, 2)),
        ("view", view, ("most",), (2, 2, 2)),
    ]  # fmt: skip
    nodes = [Node("input", Input(0.5, -128, 127), (), image, "x", torch.tensor(0.5))]
    nodes += [Node(name, op, inputs, shape, f"net.{name}", unit) for name, op, inputs, shape in ops]
    return Graph(
        tuple(nodes), ("readout", "gelu", "view"), Level.SPIKING, Contract(7, Reset.ZERO, 3, Rounding.BIAS)
    )


def same(one: object, other: object) -> bool:
    """Equal, field by field: tensors by type and value, the rest by type and equality."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, tuple):
        return isinstance(other, tuple) and len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


def assert_equal_graphs(one: Graph, other: Graph) -> None:
    """Every node, every field."""
    assert (one.outputs, one.level, one.contract) == (other.outputs, other.level, other.contract)
    assert len(one.nodes) == len(other.nodes)
    for left, right in zip(one.nodes, other.nodes, strict=True):
        for name in ("name", "inputs", "shape", "source", "unit"):
            assert same(getattr(left, name), getattr(right, name)), f"{left.name}.{name}"
        assert type(left.op) is type(right.op)
        for field in fields(left.op):
            assert same(getattr(left.op, field.name), getattr(right.op, field.name)), (
                f"{left.name}.{field.name}"
            )


# .pth ----------------------------------------------------------------------------------------------


def test_every_op_survives_the_round_trip_field_by_field(tmp_path):
    """Transposed and grouped convolutions, gathers, opaque calls with nested arguments, several outputs."""
    graph = of_every_op()
    assert {type(node.op) for node in graph.nodes} == set(OPS.values()) - {
        Relu,
        BatchNorm,
    }  # which no SPIKING graph has
    content = torch.load(_written(graph, tmp_path), weights_only=True)
    assert_equal_graphs(graph, pth.from_plain(content))


def _written(graph: Graph, folder: Path) -> Path:
    return pth.save(graph, {"network": "small"}, folder / "snn.pth")


def test_a_saved_graph_loads_with_its_provenance_and_simulates_alike(tmp_path):
    """What is loaded is what was saved, to the last output."""
    graph = small()
    loaded, provenance = pth.load(_written(graph, tmp_path))
    assert provenance == {"network": "small"}
    assert_equal_graphs(graph, loaded)
    x = torch.rand(5, 1, 2, 2)
    assert torch.equal(simulate(graph, x).outputs[0], simulate(loaded, x).outputs[0])


def test_the_same_graph_gives_the_same_bytes(tmp_path):
    """Whatever the file's name, and wherever the words of the provenance came from."""
    word = "digits"
    copied = "".join(["dig", "its"])  # equal, but another object
    one = pth.save(small(), {"a": word, "b": [word]}, tmp_path / "one.pth").read_bytes()
    other = pth.save(small(), {"a": word, "b": [copied]}, tmp_path / "other.pth").read_bytes()
    assert one == other
    assert one != pth.save(small(threshold=301), {"a": word, "b": [word]}, tmp_path / "one.pth").read_bytes()


def test_a_views_hidden_storage_does_not_reach_the_file(tmp_path):
    """A slice of a large tensor is saved as the slice."""
    large = torch.zeros(1_000_000, dtype=torch.int64)
    fire = small()["fire"]
    graph = small().with_ops({"fire": replace(fire.op, threshold=large[:1].reshape(()) + 300, bias=large[0])})
    assert _written(graph, tmp_path).stat().st_size < 20_000


def test_torch_alone_reads_the_file(tmp_path):
    """A process that has not imported this package, with torch's safe default."""
    path = _written(of_every_op(), tmp_path)
    code = (
        "import sys, torch; content = torch.load(sys.argv[1]); assert content['format'] == 'ann2snn/snn'\n"
        "assert not any(name.startswith('ann2snn') for name in sys.modules); print(len(content['nodes']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "16\n"


def test_only_plain_values_are_in_the_file(tmp_path):
    """Dicts, lists, tensors, text and numbers: nothing that any version of torch would have to trust."""

    def walk(value):
        if isinstance(value, dict):
            for key, item in value.items():
                assert type(key) is str
                walk(item)
        elif isinstance(value, list):
            for item in value:
                walk(item)
        else:
            assert type(value) in (torch.Tensor, str, int, float, bool, type(None))

    walk(torch.load(_written(of_every_op(), tmp_path), weights_only=True))


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, -100])
def test_a_file_that_broke_off_is_refused(kept, tmp_path):
    """Wherever it ends (the last 77 bytes are no content: the hash of all that is before them)."""
    path = _written(small(), tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept) if isinstance(kept, float) else kept])
    with pytest.raises(BadFile, match="damaged or no torch file"):
        pth.load(path)
    assert not pth.is_ours(path)


def test_a_pickled_module_is_not_run(tmp_path):
    """The remedy says what to give instead."""
    torch.save(nn.Linear(2, 2), tmp_path / "module.pth")
    with pytest.raises(BadFile, match="pickled code") as raised:
        pth.load(tmp_path / "module.pth")
    assert "ann_weight" in str(raised.value)
    assert not pth.is_ours(tmp_path / "module.pth")


@pytest.mark.parametrize("content", [[1], {"state_dict": {}}, torch.zeros(2), {"format": "other/snn"}])
def test_a_torch_file_of_something_else_is_no_snn(content, tmp_path):
    """Lists, checkpoints, tensors, other people's dicts."""
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(BadFile, match="no SNN of ann2snn"):
        pth.load(tmp_path / "other.pth")


def test_a_missing_file_is_refused(tmp_path):
    """By its path."""
    with pytest.raises(BadFile, match="no such file") as raised:
        pth.load(tmp_path / "absent.pth")
    assert raised.value.where == str(tmp_path / "absent.pth")


def test_a_newer_version_is_refused(tmp_path):
    """A tool does not guess what the format of a newer one means."""
    content = pth.to_plain(small(), {})
    torch.save(content | {"version": pth.VERSION + 1}, tmp_path / "new.pth")
    with pytest.raises(BadFile, match="version 3, this ann2snn reads version 2") as raised:
        pth.load(tmp_path / "new.pth")
    assert raised.value.remedy == "update ann2snn"


def test_an_older_version_is_refused(tmp_path):
    """Version 1 had two schedules and no delay: it is not damaged, it is old."""
    content = pth.to_plain(small(), {})
    content["contract"] = {
        "timesteps": 4, "reset_mode": "subtraction", "schedule": "layerwise", "rounding": "potential"
    }  # fmt: skip
    torch.save(content | {"version": 1}, tmp_path / "old.pth")
    with pytest.raises(BadFile, match="version 1, this ann2snn reads version 2") as raised:
        pth.load(tmp_path / "old.pth")
    assert raised.value.remedy == "convert the network again"


def _without(key):
    return lambda content: content.pop(key)


@pytest.mark.parametrize(
    "damage",
    [
        _without("version"),
        _without("nodes"),
        _without("provenance"),
        _without("contract"),
        lambda content: content["nodes"].pop(0),
        lambda content: content["nodes"][1].pop("fields"),
        lambda content: content["nodes"][1].update(op=["Conv"]),
        lambda content: content["nodes"][1].update(fields=[1]),
        lambda content: content["nodes"][1]["fields"].update(weight=torch.full((2, 1, 1, 1), 0.5)),
        lambda content: content.update(nodes="text"),
        lambda content: content["outputs"].append("absent"),
        lambda content: content["contract"].update(delay=9),
        lambda content: content["contract"].update(timesteps=4.0),
        lambda content: content["contract"].update(reset_mode="soft"),
        lambda content: content["contract"].pop("rounding"),
    ],
)
def test_damaged_content_is_refused(damage, tmp_path):
    """Whatever somebody's editor did to it: one kind of error, with a remedy."""
    content = pth.to_plain(small(), {})
    damage(content)
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(BadFile, match="its content is damaged") as raised:
        pth.load(tmp_path / "odd.pth")
    assert "convert the network again" in raised.value.remedy


# Files and folders ---------------------------------------------------------------------------------


def ours(path: Path) -> bool:
    """A file that begins with our mark."""
    return path.read_bytes().startswith(b"ours")


def sealed(text: str) -> bytes:
    """Such a file, with its hash."""
    return files.sealed(f"{text} {files.SEAL}: {files.NO_SEAL} and more".encode())


def test_a_file_is_written_with_its_folders_and_ordinary_permissions(tmp_path):
    """Temporary files are private; results are not."""
    path = files.write_file(tmp_path / "a/b/c.txt", b"ours", is_ours=ours)
    assert path.read_bytes() == b"ours"
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert [each.name for each in path.parent.iterdir()] == ["c.txt"]


def test_a_file_of_ours_is_replaced_and_a_foreign_one_only_when_told(tmp_path):
    """What we did not write is not ours to lose."""
    path = tmp_path / "x"
    files.write_file(path, sealed("ours 1"), is_ours=ours)
    files.write_file(path, sealed("ours 2"), is_ours=ours)
    path.write_bytes(b"theirs")
    with pytest.raises(BadFile, match="not written by ann2snn") as raised:
        files.write_file(path, b"ours 3", is_ours=ours)
    assert "save_file" in str(raised.value)
    assert path.read_bytes() == b"theirs"
    files.write_file(path, b"ours 3", is_ours=ours, overwrite=True)
    assert path.read_bytes() == b"ours 3"


@pytest.mark.parametrize("edit", [b"ours 1, and a note", b"and less", b"file_sha256: none"])
def test_a_file_of_ours_that_was_changed_is_replaced_only_when_told(edit, tmp_path):
    """A file knows its own hash: a letter before or behind it, or the hash taken out, make it the user's."""
    path, whole = tmp_path / "x", sealed("ours 1")
    files.write_file(path, whole, is_ours=ours)
    hash_in_it = whole.partition(b": ")[2][:64]
    assert hash_in_it == hashlib.sha256(whole.replace(hash_in_it, b"0" * 64)).hexdigest().encode()
    old = {b"ours 1, and a note": b"ours 1", b"and less": b"and more"}
    changed = whole.replace(old.get(edit, b"file_sha256: " + hash_in_it), edit)
    assert changed != whole
    path.write_bytes(changed)
    with pytest.raises(BadFile, match="changed since ann2snn wrote it") as raised:
        files.write_file(path, sealed("ours 2"), is_ours=ours)
    assert (raised.value.where, "overwrite=True" in str(raised.value)) == (str(path), True)
    assert path.read_bytes() == changed
    files.write_file(path, sealed("ours 2"), is_ours=ours, overwrite=True)
    assert path.read_bytes() == sealed("ours 2")


def test_a_pth_that_was_changed_is_replaced_only_when_told(tmp_path):
    """A threshold that was set by hand and saved by torch; and the file still loads."""
    path = _written(small(), tmp_path)
    pth.save(small(), {}, path)
    content = torch.load(path, weights_only=True)
    content["provenance"]["note"] = "mine"
    torch.save(content, path)
    with pytest.raises(BadFile, match="changed since ann2snn wrote it"):
        pth.save(small(), {}, path)
    assert pth.load(path)[1]["note"] == "mine"
    pth.save(small(), {}, path, overwrite=True)
    assert pth.load(path)[1] == {}


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("place", ["os.replace", "os.fdopen"])
def test_a_file_whose_writing_fails_stays_as_it_was(place, error, tmp_path, monkeypatch):
    """A full disk, Ctrl-C: the old content, and no temporary file."""
    path = files.write_file(tmp_path / "x", sealed("ours 1"), is_ours=ours)

    def fail(*words, **more):
        raise error

    monkeypatch.setattr(place, fail)
    with pytest.raises(type(error)):
        files.write_file(path, b"ours 2", is_ours=ours)
    assert path.read_bytes() == sealed("ours 1")
    assert [each.name for each in tmp_path.iterdir()] == ["x"]


def test_a_folder_in_the_place_of_a_file_is_never_replaced(tmp_path):
    """--overwrite of a file's name must not cost a folder."""
    (tmp_path / "x").mkdir()
    with pytest.raises(BadFile, match="a folder of that name"):
        files.write_file(tmp_path / "x", b"", is_ours=ours, overwrite=True)


def test_what_a_killed_run_began_to_write_is_removed_and_what_is_being_written_is_not(tmp_path):
    """A process holds its temporary file as long as it lives."""
    with (tmp_path / ".x.writing.alive").open("wb") as alive:
        fcntl.flock(alive, fcntl.LOCK_EX)
        (tmp_path / ".x.writing.stale").touch()
        (tmp_path / ".xy.writing.stale").touch()  # of another file
        files.write_file(tmp_path / "x", sealed("ours"), is_ours=ours)
        assert sorted(each.name for each in tmp_path.iterdir()) == [
            ".x.writing.alive", ".xy.writing.stale", "x",
        ]  # fmt: skip
    files.write_file(tmp_path / "x", b"ours", is_ours=ours)
    assert sorted(each.name for each in tmp_path.iterdir()) == [".xy.writing.stale", "x"]


def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path):
    """Whoever keeps results on another disk by a link goes on to do so."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "x").symlink_to("disk/y")
    for content in (sealed("ours 1"), sealed("ours 2")):
        files.write_file(tmp_path / "x", content, is_ours=ours)
        assert (tmp_path / "x").is_symlink()
        assert (tmp_path / "disk/y").read_bytes() == content


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"schema": "ann2snn/convert/1"}', True),
        (b'{"schema": "theirs"}', False),
        (b'["ann2snn/"]', False),
        (b"{", False),
        (b"\xff\xfe", False),
    ],
)
def test_our_json_names_a_schema_of_ours(content, expected, tmp_path):
    """Anything else belongs to somebody else."""
    (tmp_path / "x.json").write_bytes(content)
    assert files.is_our_json(tmp_path / "x.json") == expected


def test_our_yaml_begins_with_our_comment(tmp_path):
    """And bytes that are no text are not ours."""
    for content, expected in (
        (b"# ann2snn settings: ...\na: 1\n", True),
        (b"a: 1\n", False),
        (b"\xff", False),
    ):
        (tmp_path / "x.yaml").write_bytes(content)
        assert files.is_our_yaml(tmp_path / "x.yaml") == expected


def test_a_place_that_is_shut_is_refused_before_any_work(tmp_path):
    """A file where a folder should be, at any depth; a folder that is not there yet is no hindrance."""
    files.refuse_unwritable(tmp_path)
    files.refuse_unwritable(tmp_path / "not/there/yet")
    (tmp_path / "file").touch()
    for place in ("file", "file/deeper", "file/deeper/still"):
        with pytest.raises(BadFile, match="cannot be written there") as raised:
            files.refuse_unwritable(tmp_path / place, "--save_dir")
        assert raised.value.where == str(tmp_path / place)
        assert "--save_dir" in raised.value.remedy
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to a read-only folder")
def test_a_read_only_folder_is_refused(tmp_path):
    """By its permissions."""
    (tmp_path / "shut").mkdir(mode=0o555)
    with pytest.raises(BadFile, match="cannot be written there"):
        files.refuse_unwritable(tmp_path / "shut")
