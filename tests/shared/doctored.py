"""Files that lie, made from one tiny honest SNN: each with its name, what it claims to be, and what is wrong.

`honest(folder)` writes the files that are good; `doctored(folder)` those that must be refused, each in words,
by every command of READERS that reads its kind.
"""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from ann2snn_cli.ir.contract import Contract
from ann2snn_cli.ir.graph import Graph, Level, Node
from ann2snn_cli.ir.ops import (
    AvgPool,
    Conv,
    Gather,
    Input,
    Integrate,
    IntegrateFire,
    Linear,
    Opaque,
    Permute,
    Ref,
    Reshape,
)
from ann2snn_cli.stages.export import pth
from ann2snn_cli.stages.export.pack import Sample
from ann2snn_cli.workflows.pack import write_samples

HUGE = 2**40
BOMB = 3 * 2**28  # bytes of zeros that a zip unpacks to
NETWORK = "./tiny.py"
READERS = {  # by kind: the commands that read such a file, {} its path
    "snn": [["inspect", "{}"], ["simulate", "{}"], ["verify", "{}"], ["export", "{}", "--format", "onnx"]],
    "pack": [["verify", "{}"], ["diff", "{}", "honest_pack"], ["diff", "honest_pack", "{}"]],
    "log": [["diff", "honest_pack", "{}"]],
    "onnx": [["inspect", "{}", "--dataset", "npz:honest.npz"]],
    "checkpoint": [["convert", NETWORK, "--ann_weight", "{}", "--finetune_epochs", "0"]],
    "config": [["convert", NETWORK, "--config", "{}", "--finetune_epochs", "0"]],
    "hardware": [["check", NETWORK, "--hardware", "{}"]],
    "npz": [["train", NETWORK, "--dataset", "npz:{}", "--epochs", "1"]],
}


@dataclass(frozen=True)
class Doctored:
    """A file, or a folder, that lies."""

    kind: str  # of READERS
    name: str
    path: Path
    wrong: str  # in words

    @property
    def commands(self) -> list[list[str]]:
        """What reads it."""
        return [[word.format(self.path) for word in words] for words in READERS[self.kind]]


Change = Callable[[Any], object]


# The honest ones -----------------------------------------------------------------------------------

TINY = """from torch import nn

DATASET = "npz:honest.npz"


def build(input_shape, classes):
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, classes))
"""


def graph() -> Graph:
    """input 1x4x4 -> conv -> neurons -> permute -> gather -> pool -> flat -> linear -> read-out."""
    one = torch.tensor(1.0, dtype=torch.float64)
    whole = torch.tensor
    ops = [
        ("in", Input(1.0), (), (1, 4, 4)),
        ("conv", Conv(whole([[[[1, -2], [3, 0]]], [[[2, 2], [-1, 1]]]]), bits=3), ("in",), (2, 3, 3)),
        ("fire", IntegrateFire(whole(300), whole(5), whole(150)), ("conv",), (2, 3, 3)),
        ("turned", Permute((0, 2, 1)), ("fire",), (2, 3, 3)),
        ("padded", Gather(torch.arange(32).reshape(2, 4, 4).clamp(max=17)), ("turned",), (2, 4, 4)),
        ("pool", AvgPool((2, 2), (2, 2), (0, 0)), ("padded",), (2, 2, 2)),
        ("flat", Reshape(), ("pool",), (8,)),
        ("fc", Linear(torch.arange(16).reshape(2, 8) % 7 - 3, bits=3), ("flat",), (2,)),
        ("out", Integrate(whole([1, 2]), whole([0, 0])), ("fc",), (2,)),
    ]  # fmt: skip
    nodes = tuple(Node(name, op, inputs, shape, f"net.{name}", one) for name, op, inputs, shape in ops)
    return Graph(nodes, ("out",), Level.SPIKING, Contract(4))


def opaque() -> Graph:
    """input -> sigmoid: a file that names an operator of torch."""
    one = torch.tensor(1.0, dtype=torch.float64)
    op = Opaque("aten.sigmoid.default", (Ref(0),))
    return Graph(
        (Node("in", Input(1.0), (), (2,), "", one), Node("act", op, ("in",), (2,), "net.act", one)),
        ("act",),
        Level.SPIKING,
        Contract(4),
    )


def honest(folder: Path) -> None:
    """Everything that is doctored, as it should be."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tiny.py").write_text(TINY)
    pth.save(graph(), {"dataset": "npz:honest.npz"}, folder / "honest.pth")
    pth.save(opaque(), {}, folder / "honest_opaque.pth")
    stimulus = {"in": torch.arange(16).reshape(1, 4, 4) * 15}
    write_samples(graph(), [Sample("one", "real", "", stimulus)], folder / "honest_pack")
    random = np.random.default_rng(0)
    x = random.integers(0, 255, (20, 1, 4, 4)).astype(np.uint8)
    np.savez(folder / "honest.npz", x=x, y=np.arange(20) % 2)
    torch.save(_state(), folder / "honest_ann.pth")
    onnx.save(_model(), folder / "honest.onnx")
    (folder / "honest.yaml").write_text("timing:\n  timesteps: 4\n")
    (folder / "honest_chip.yaml").write_text("threshold_bits: 18\n")


def _state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    shapes = {"0.weight": (2, 1, 3, 3), "0.bias": (2,), "3.weight": (2, 8), "3.bias": (2,)}
    return {name: torch.randn(shape) for name, shape in shapes.items()}


def doctored(folder: Path) -> Iterator[Doctored]:
    """Every file that lies, written one after the other; the honest ones must be in the folder."""
    makers = {
        "snn": _snns,
        "pack": _packs,
        "log": _logs,
        "onnx": _onnx_files,
        "checkpoint": _checkpoints,
        "config": _configs,
        "hardware": _chips,
        "npz": _arrays,
    }
    for kind, make in makers.items():
        for name, path, wrong in make(folder):
            yield Doctored(kind, name, path, wrong)


Made = Iterator[tuple[str, Path, str]]


# SNNs ----------------------------------------------------------------------------------------------


def _node(content: Any, name: str) -> Any:
    return next(node for node in content["nodes"] if node["name"] == name)


def _field(node: str, field: str, value: Any) -> Change:
    return lambda content: _node(content, node)["fields"].update({field: value})


def _fields(node: str, **values: Any) -> Change:
    return lambda content: _node(content, node)["fields"].update(values)


def _entry(node: str, **values: Any) -> Change:
    return lambda content: _node(content, node).update(values)


def _contract(**values: Any) -> Change:
    return lambda content: content["contract"].update(values)


def _doubled(times: int) -> list[Any]:
    """A list of two lists of two lists ...: a few bytes, 2^times values."""
    value: list[Any] = [1]
    for _ in range(times):
        value = [value, value]
    return value


class _Allocates:
    """For pickle: a call that makes 16 GB."""

    def __reduce__(self) -> tuple[Any, ...]:
        return bytearray, (2**34,)


class _Runs:
    """For pickle: a call of a program."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("code of the file was run",)


SNNS: dict[str, tuple[str, Change]] = {
    **{
        f"timesteps_{value}": (f"T is {value!r}", _contract(timesteps=value))
        for value in (-3, 0, 8.5, True, float("nan"), HUGE, "8", None)
    },
    "delay_beyond": ("the delay is 9 of 4 steps", _contract(delay=9)),
    "reset_foo": ("reset foo", _contract(reset_mode="foo")),
    "rounding_foo": ("rounding foo", _contract(rounding="foo")),
    "no_contract": ("the contract is a number", lambda c: c.update(contract=3)),
    "version_word": ("the version is a word", lambda c: c.update(version="two")),
    "no_nodes": ("there are no nodes", lambda c: c.pop("nodes")),
    "nodes_a_number": ("the nodes are a number", lambda c: c.update(nodes=7)),
    "no_layers": ("the list of nodes is empty", lambda c: c.update(nodes=[], outputs=[])),
    "shape_null": ("a shape is null", _entry("fire", shape=None)),
    "shape_huge": ("a shape is 2^40", _entry("in", shape=[1, HUGE, 4])),
    "shape_zero": ("a shape has a 0", _entry("in", shape=[1, 0, 4])),
    "shape_other": ("a shape that the layer does not give", _entry("conv", shape=[2, 3, 5])),
    "name_number": ("a layer's name is a number", _entry("conv", name=5)),
    "name_twice": ("two layers have one name", _entry("fc", name="flat")),
    "input_is_no_layer": ("it reads a layer that is not there", _entry("conv", inputs=["nowhere"])),
    "input_is_later": ("a cycle: it reads a later layer", _entry("conv", inputs=["out"])),
    "inputs_null": ("its inputs are null", _entry("conv", inputs=None)),
    "two_inputs": ("a convolution of two inputs", _entry("conv", inputs=["in", "in"])),
    "output_is_no_layer": ("an output that is no layer", lambda c: c.update(outputs=["nowhere"])),
    "no_output": ("no outputs", lambda c: c.update(outputs=[])),
    "op_unknown": ("an op that does not exist", _entry("conv", op="Magic")),
    "field_unknown": ("a field that does not exist", _field("conv", "magic", 1)),
    "field_missing": ("a field is missing", lambda c: _node(c, "fire")["fields"].pop("threshold")),
    "no_permutation": ("a permutation that is none", _field("turned", "order", [0, 0, 1])),
    "permutation_words": ("a permutation of words", _field("turned", "order", ["a", "b", "c"])),
    "index_beyond": ("an index beyond what it reads", _field("padded", "index", torch.full((2, 4, 4), HUGE))),
    "index_float": ("an index of floats", _field("padded", "index", torch.ones(2, 4, 4))),
    "weight_other": ("weights of another shape", _field("conv", "weight", torch.ones(2, 3, 2, 2).long())),
    "weight_0d": ("weights without axes", _field("conv", "weight", torch.tensor(1))),
    "weight_empty": ("no weights", _field("fc", "weight", torch.zeros(2, 0).long())),
    "weight_sparse": ("sparse weights", _field("fc", "weight", torch.ones(2, 8).long().to_sparse())),
    "weight_meta": ("weights without values", _field("fc", "weight", torch.ones(2, 8, device="meta").long())),
    "weight_float": ("weights of floats", _field("fc", "weight", torch.ones(2, 8))),
    "weight_nan": ("weights of NaN", _field("fc", "weight", torch.full((2, 8), torch.nan))),
    "weight_complex": ("complex weights", _field("fc", "weight", torch.ones(2, 8, dtype=torch.complex64))),
    "weight_bool": ("weights of bits", _field("fc", "weight", torch.ones(2, 8).bool())),
    "weight_wide": ("weights beyond their grid", _field("fc", "weight", torch.full((2, 8), 9))),
    "weight_null": ("weights are null", _field("fc", "weight", None)),
    "weight_spread": ("weights of 2^40 values, by strides of 0",
                      _field("fc", "weight", torch.ones(1, 1).long().expand(2, HUGE))),
    "bits_huge": ("weights of 2^40 bits", _field("fc", "bits", HUGE)),
    "bits_negative": ("weights of -1 bits", _field("fc", "bits", -1)),
    "threshold_zero": ("a threshold of 0", _field("fire", "threshold", torch.tensor(0))),
    "threshold_wide": ("a threshold of 2^62", _field("fire", "threshold", torch.tensor(2**62))),
    "bias_lowest": ("the lowest of all biases", _field("fire", "bias", torch.tensor(-(2**63)))),
    "bias_narrow": ("a bias of 8 bits, whose sums would wrap",
                    _field("fire", "bias", torch.tensor(100, dtype=torch.int8))),
    "fraction_huge": ("2^40 fraction bits", _field("fire", "fraction_bits", HUGE)),
    "fraction_word": ("fraction bits in words", _field("fire", "fraction_bits", "two")),
    "groups_zero": ("0 groups", _field("conv", "groups", 0)),
    "stride_zero": ("a stride of 0", _field("conv", "stride", [0, 0])),
    "padding_huge": ("a padding of 2^40", _field("conv", "padding", [HUGE, HUGE])),
    "kernel_huge": ("a window of 2^40", _field("pool", "kernel", [HUGE, HUGE])),
    "unit_nan": ("a unit of NaN", _entry("out", unit=torch.tensor(torch.nan))),
    "unit_negative": ("a unit below 0", _entry("out", unit=torch.tensor(-1.0))),
    "unit_word": ("a unit in words", _entry("out", unit="one")),
    "input_unit_zero": ("samples in units of 0", _field("in", "unit", 0.0)),
    "input_unit_nan": ("samples in units of NaN", _field("in", "unit", float("nan"))),
    "input_ends": ("samples whose lowest is above the highest", _field("in", "low", 300)),
    "provenance_tensor": ("tensors as provenance", lambda c: c.update(provenance={"network": torch.ones(3)})),
    "provenance_null": ("no provenance", lambda c: c.update(provenance=None)),
    "doubled": ("lists that share their parts: 2^60 values", _field("turned", "order", _doubled(60))),
    "nested": ("lists 400 deep", _field("turned", "order", [json.loads("[" * 400 + "]" * 400)])),
    "allocates": ("a call that makes 16 GB", lambda c: c.update(provenance={"network": _Allocates()})),
    "runs_code": ("a call of code", lambda c: c.update(provenance={"network": _Runs()})),
}  # fmt: skip

OPAQUES: dict[str, tuple[str, Change]] = {
    "opaque_huge": ("an operator that fills 2^40 values",
                    _fields("act", target="aten.zeros.default", args=[[2, HUGE]])),
    "opaque_ref": ("an operator that reads an input that is not there", _field("act", "args", [{"ref": 7}])),
    "opaque_other": ("an operator that gives another shape",
                     _fields("act", target="aten.sum.default")),
}  # fmt: skip


def _snns(folder: Path) -> Made:
    for source, table in (("honest.pth", SNNS), ("honest_opaque.pth", OPAQUES)):
        for name, (wrong, change) in table.items():
            content = torch.load(folder / source, weights_only=True)
            change(content)
            path = folder / f"{name}.pth"
            torch.save(content, path)
            yield name, path, wrong
    yield "snn_cycle", _cycle(folder), "a list that holds itself"
    yield "snn_cut", _cut(folder / "honest.pth", folder / "cut.pth"), "the file is cut"
    yield "snn_bomb", _bombed(folder / "honest.pth", folder / "bomb.pth"), f"a zip bomb of {BOMB} bytes"
    claimed = _recounted(folder / "honest.pth", folder / "recounted.pth")
    yield "snn_storage", claimed, "a tensor claims more numbers than are stored"
    text = folder / "text.pth"
    text.write_text("no torch file\n")
    yield "snn_text", text, "a text"
    empty = folder / "empty.pth"
    empty.write_bytes(b"")
    yield "snn_empty", empty, "nothing"
    other = folder / "list.pth"
    torch.save([1, 2], other)
    yield "snn_list", other, "a list"


def _cycle(folder: Path) -> Path:
    content = torch.load(folder / "honest.pth", weights_only=True)
    loop: list[Any] = []
    loop.append(loop)
    _node(content, "turned")["fields"]["order"] = loop
    torch.save(content, folder / "cycle.pth")
    return folder / "cycle.pth"


def _cut(source: Path, path: Path) -> Path:
    content = source.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


def _bomb(path: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1)


def _bombed(source: Path, path: Path) -> Path:
    """The same zip, each tensor's storage replaced by deflated zeros: 3 MB that unpack to 800 MB."""
    with zipfile.ZipFile(source) as old, _bomb(path) as new:
        storages = [name for name in old.namelist() if "/data/" in name]
        for name in old.namelist():
            if name != storages[0]:
                new.writestr(name, old.read(name))
        with new.open(storages[0], "w", force_zip64=True) as file:
            for _ in range(BOMB // 2**24):
                file.write(bytes(2**24))
    return path


def _recounted(source: Path, path: Path) -> Path:
    """The same zip, a tensor's storage said to hold 2^31 - 1 numbers: the 16 of the linear layer."""
    content = torch.load(source, weights_only=True)
    _node(content, "fc")["fields"]["weight"] = torch.arange(1000).reshape(2, 500)
    torch.save(content, path)
    with zipfile.ZipFile(path) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    name = next(each for each in parts if each.endswith("data.pkl"))
    changed = parts[name].replace(b"M\xe8\x03t", b"J\xff\xff\xff\x7ft")
    assert changed != parts[name], "the number of the storage's elements was not found"
    with zipfile.ZipFile(path, "w") as new:
        for each, part in parts.items():
            new.writestr(each, changed if each == name else part)
    return path


# Packs ---------------------------------------------------------------------------------------------


def _layer(manifest: Any, name: str) -> Any:
    return next(layer for layer in manifest["layers"] if layer["name"] == name)


def _set(layer: str, **values: Any) -> Change:
    return lambda manifest: _layer(manifest, layer).update(values)


def _parameter(layer: str, role: str, **values: Any) -> Change:
    return lambda manifest: _layer(manifest, layer)["parameters"][role].update(values)


def _rule(**values: Any) -> Change:
    return lambda manifest: manifest["contract"].update(values)


OUTSIDE = "../elsewhere.mem"
PACKS: dict[str, tuple[str, Change]] = {
    **{
        f"pack_timesteps_{value}": (f"T is {value!r}", _rule(timesteps=value))
        for value in (-3, 0, 8.5, True, float("nan"), HUGE)
    },
    "pack_reset": ("reset foo", _rule(reset_mode="foo")),
    "pack_contract": ("the contract is a list", lambda m: m.update(contract=[])),
    "weight_outside": ("weights outside of its folder", _parameter("conv", "weight", file=OUTSIDE)),
    "weight_absolute": ("weights at an absolute path", _parameter("conv", "weight", file="/dev/zero")),
    "stimulus_outside": ("a stimulus outside", lambda m: m["samples"][0]["stimulus"].update({"in": OUTSIDE})),
    "expect_outside": ("spikes outside",
                       lambda m: m["samples"][0]["expect"]["fire"].update(spikes=f"expect/../{OUTSIDE}")),
    "result_outside": ("a result outside", lambda m: m["samples"][0].update(result=OUTSIDE)),
    "files_outside": ("a listed file outside",
                      lambda m: m["files"].update({OUTSIDE: {"sha256": "", "bytes": 1, "words": 1}})),
    "file_name_outside": ("a layer's files outside", _set("conv", file_name="../../elsewhere")),
    "verilog_text": ("a path that would end a string of Verilog",
                     _set("in", file_name='a"); $system("touch was_run"); //')),
    "c_text": ("a number that is text of C", _set("fire", fraction_bits="0, .name = system(0)")),
    "pack_shape_null": ("a shape is null", _set("conv", shape=None)),
    "pack_shape_huge": ("a shape is 2^40", _set("in", shape=[1, HUGE, HUGE])),
    "pack_shape_other": ("a shape that does not follow", _set("conv", shape=[2, 3, 4])),
    "pack_input": ("an input that is no layer", _set("conv", inputs=["nowhere"])),
    "pack_cycle": ("a cycle", _set("conv", inputs=["out"])),
    "pack_twice": ("two layers have one name", _set("flat", name="pool")),
    "pack_kind": ("a kind that does not exist", _set("pool", kind="magic")),
    "pack_order": ("a permutation that is none", _set("turned", order=[0, 1, 1])),
    "pack_kernel": ("a window of 2^40", _set("pool", kernel=[HUGE, HUGE])),
    "pack_padding": ("a padding of 2^40", _set("conv", padding=[HUGE, HUGE], shape=[2, 2 * HUGE, 2 * HUGE])),
    "pack_stride": ("a stride of 0", _set("conv", stride=[0, 0])),
    "pack_groups": ("0 groups", _set("conv", groups=0)),
    "pack_fraction": ("2^40 fraction bits", _set("fire", fraction_bits=HUGE)),
    "pack_bits": ("words of 2^40 bits", _parameter("conv", "weight", bits=HUGE)),
    "pack_words": ("a count of words that is no product of the shape", _parameter("conv", "weight", words=3)),
    "pack_weight": ("weights of another shape", _parameter("conv", "weight", shape=[8], words=8)),
    "pack_encoding": ("an encoding that does not exist", _parameter("conv", "weight", encoding="foo")),
    "pack_no_weight": ("no weights", lambda m: _layer(m, "conv")["parameters"].clear()),
    "pack_output": ("an output that is no layer", lambda m: m.update(outputs=["nowhere"])),
    "pack_no_layers": ("no layers", lambda m: m.update(layers=[])),
    "pack_layers": ("layers are a number", lambda m: m.update(layers=3)),
    "pack_samples": ("samples are null", lambda m: m.update(samples=None)),
    "pack_sample_name": ("a sample's name is a path", lambda m: m["samples"][0].update(name="../../one")),
    "pack_recorded": ("9 of 4 steps are recorded", lambda m: m["recorded"].update(steps=9)),
    "pack_recorded_layer": ("a record of no layer", lambda m: m["recorded"].update(layers=["nowhere"])),
    "pack_potential": ("a potential of 2^40 bits", _set("fire", potential={"bits": HUGE})),
}  # fmt: skip


def _pack(folder: Path, name: str) -> Path:
    return Path(shutil.copytree(folder / "honest_pack", folder / name))


def _packs(folder: Path) -> Made:
    (folder / "elsewhere.mem").write_text("1\n" * 8)
    for name, (wrong, change) in PACKS.items():
        place = _pack(folder, name)
        manifest = json.loads((place / "manifest.json").read_text())
        change(manifest)
        _write_manifest(place, manifest)
        yield name, place, wrong
    place = _pack(folder, "pack_link")
    (place / "weights/conv.mem").unlink()
    (place / "weights/conv.mem").symlink_to(folder / "elsewhere.mem")
    yield "pack_link", place, "a file is a link to one outside"
    place = _pack(folder, "pack_nested")
    (place / "manifest.json").write_text("[" * 100_000)
    yield "pack_nested", place, "a manifest 100 000 deep"
    place = _pack(folder, "pack_sparse")
    with (place / "weights/conv.mem").open("r+b") as file:
        file.truncate(2**36)
    yield "pack_sparse", place, "weights of 64 GB"
    place = _pack(folder, "pack_result")
    _replaced(place, "expect/one/result.json", '{"outputs": {"out": [1e999, "x"]}}')
    yield "pack_result", place, "a result that is no whole numbers"
    place = _pack(folder, "pack_index")
    _replaced(place, "index/padded.mem", "0f\n" * 31 + "1f\n")
    yield "pack_index", place, "an index beyond what it reads"


def _replaced(place: Path, name: str, text: str) -> None:
    """A file with another content, which the manifest knows of."""
    (place / name).write_text(text)
    manifest = json.loads((place / "manifest.json").read_text())
    manifest["files"][name] |= {"sha256": hashlib.sha256(text.encode()).hexdigest(), "bytes": len(text)}
    _write_manifest(place, manifest)


def _write_manifest(place: Path, manifest: Any) -> None:
    content = {name: value for name, value in manifest.items() if name != "manifest_sha256"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    content["manifest_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    (place / "manifest.json").write_text(json.dumps(content))


def _logs(folder: Path) -> Made:
    head = "sample,layer,step,neuron,spike\n"
    for name, text, wrong in [
        ("log_huge", f"{head}one,fire,1,{HUGE},1\n", "a neuron of number 2^40"),
        ("log_digits", f"{head}one,fire,1,{'9' * 5000},1\n", "a number of 5000 digits"),
        ("log_columns", "a,b\n1,2\n", "other columns"),
        ("log_field", f"{head}one,fire,{'x' * 200_000},1,1\n", "a field of 200 000 letters"),
    ]:
        (folder / f"{name}.csv").write_text(text)
        yield name, folder / f"{name}.csv", wrong


# ONNX ----------------------------------------------------------------------------------------------


def _model(*nodes: Any, weights: Any = None, opset: int = 18, functions: Any = ()) -> onnx.ModelProto:
    """x -> Flatten -> Gemm -> y; other nodes stand before the Gemm, and may name its weights `w`."""
    w = _weights(1) if weights is None else weights
    inner = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        *nodes,
        helper.make_node("Gemm", ["flat", "w"], ["y"]),
    ]
    shown = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 1, 4, 4])]
    given = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])]
    imports = [helper.make_opsetid("", opset)] + [helper.make_opsetid("own", 1)] * bool(functions)
    made = helper.make_graph(inner, "g", shown, given, [w] if w else [])
    return helper.make_model(made, opset_imports=imports, functions=functions, ir_version=8)


def _weights(value: float) -> TensorProto:
    return numpy_helper.from_array(np.full((16, 2), value, np.float32), "w")


def _dims(*dims: int) -> TensorProto:
    tensor = _weights(1)
    del tensor.dims[:]
    tensor.dims.extend(dims)
    return tensor


def _external(location: str, length: int, *dims: int) -> TensorProto:
    tensor = _dims(*dims)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
    return tensor


def _constant(name: str, *values: int) -> Any:
    tensor = helper.make_tensor(name, TensorProto.INT64, [len(values)], values)
    return helper.make_node("Constant", [], [name], value=tensor)


def _laughs(levels: int) -> list[Any]:
    """Local functions, each of which calls the one below ten times."""
    made = []
    for level in range(levels):
        domain, op = ("", "Relu") if level == 0 else ("own", f"f{level - 1}")
        names = ["a", *(f"b{i}" for i in range(9)), "c"]
        nodes = [helper.make_node(op, [a], [b], domain=domain) for a, b in pairwise(names)]
        imports = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
        made.append(helper.make_function("own", f"f{level}", ["a"], ["c"], nodes, imports))
    return made


def _onnx_files(folder: Path) -> Made:
    fill = helper.make_node("ConstantOfShape", ["shape"], ["w"])
    ones = helper.make_node("ConstantOfShape", ["small"], ["one"])
    grown = [_constant("shape", 16, 2**34), _constant("small", 1), ones]
    call = helper.make_node("f9", ["flat"], ["flat2"], domain="own")
    (folder / "w.bin").write_bytes(bytes(128))
    with (folder / "sparse.bin").open("wb") as file:
        file.truncate(2**36)
    doubled = [helper.make_node("Concat", [f"d{i}"] * 2, [f"d{i + 1}"], axis=0) for i in range(40)]
    models = [
        ("onnx_dims", _model(weights=_dims(16, HUGE)), "weights of 2^40 values that are not there"),
        ("onnx_negative", _model(weights=_dims(16, -2)), "weights of a negative size"),
        ("onnx_outside", _model(weights=_external("../elsewhere.bin", 128, 16, 2)), "weights elsewhere"),
        ("onnx_absolute", _model(weights=_external("/dev/zero", 128, 16, 2)), "weights in a device"),
        ("onnx_beside", _model(weights=_external("w.bin", HUGE, 16, HUGE)), "2^40 weights in 128 bytes"),
        ("onnx_sparse", _model(weights=_external("sparse.bin", 2**36, 16, 2**30)), "64 GB in a sparse file"),
        ("onnx_longer", _model(weights=_external("sparse.bin", 128, 16, 2)), "128 bytes of weights in 64 GB"),
        ("onnx_missing", _model(weights=_external("gone.bin", 128, 16, 2)), "weights that are not there"),
        ("onnx_fill", _model(*grown[:1], fill, weights=()), "a constant of 2^38 values"),
        ("onnx_expand", _model(*grown, helper.make_node("Expand", ["one", "shape"], ["w"]), weights=()),
         "a constant that is expanded to 2^38 values"),
        ("onnx_doubled", _model(*grown[1:], helper.make_node("Identity", ["one"], ["d0"]), *doubled,
                                helper.make_node("Add", ["d40", "d40"], ["w"]), weights=()),
         "a constant that is doubled 40 times"),
        ("onnx_laughs", _model(call, functions=_laughs(10)), "functions that stand for 10^10 nodes"),
        ("onnx_opset", _model(opset=999), "an opset that does not exist"),
        ("onnx_cycle", _model(helper.make_node("Add", ["flat", "later"], ["sooner"]),
                              helper.make_node("Relu", ["sooner"], ["later"])), "a cycle"),
        ("onnx_nan", _model(weights=_weights(np.nan)), "NaN"),
    ]  # fmt: skip
    models[11][1].graph.node[-1].input[0] = "flat2"
    models[13][1].graph.node[-1].input[0] = "later"
    for name, model, wrong in models:
        (folder / f"{name}.onnx").write_bytes(model.SerializeToString())
        yield name, folder / f"{name}.onnx", wrong
    yield "onnx_cut", _cut(folder / "honest.onnx", folder / "onnx_cut.onnx"), "the file is cut"


# Checkpoints ---------------------------------------------------------------------------------------


def _checkpoints(folder: Path) -> Made:
    shape = (2, 1, 3, 3)
    tables: dict[str, tuple[str, dict[str, Any]]] = {
        "ann_spread": ("a tensor of 2^40 values by strides of 0", {"0.weight": torch.ones(1).expand(HUGE)}),
        "ann_meta": ("tensors without values", {"0.weight": torch.ones(shape, device="meta")}),
        "ann_sparse": ("a sparse tensor", {"0.weight": torch.ones(shape).to_sparse()}),
        "ann_nan": ("NaN", {"0.weight": torch.full(shape, torch.nan)}),
        "ann_complex": ("complex weights", {"0.weight": torch.ones(shape, dtype=torch.complex64)}),
        "ann_0d": ("a tensor without axes", {"0.weight": torch.tensor(1.0)}),
        "ann_other": ("another shape", {"0.weight": torch.ones(3, 1, 3, 3)}),
        "ann_words": ("words for tensors", {"0.weight": "none"}),
        "ann_allocates": ("a call that makes 16 GB", {"0.weight": _Allocates()}),
        "ann_runs": ("a call of code", {"0.weight": _Runs()}),
        "ann_doubled": ("lists that share their parts: 2^60 values", {"0.weight": _doubled(60)}),
    }
    for name, (wrong, change) in tables.items():
        torch.save(_state() | change, folder / f"{name}.pth")
        yield name, folder / f"{name}.pth", wrong
    yield (
        "ann_bomb",
        _bombed(folder / "honest_ann.pth", folder / "ann_bomb.pth"),
        f"a zip bomb of {BOMB} bytes",
    )
    yield "ann_cut", _cut(folder / "honest_ann.pth", folder / "ann_cut.pth"), "the file is cut"
    legacy = folder / "ann_legacy.pth"
    torch.save(_state() | {"0.weight": _Allocates()}, legacy, _use_new_zipfile_serialization=False)
    yield "ann_legacy", legacy, "a call that makes 16 GB, in the format of old torch files"
    pickled = folder / "ann_pickle.pth"
    pickled.write_bytes(pickle.dumps(copy.copy))
    yield "ann_pickle", pickled, "a pickle of a function"


# YAML ----------------------------------------------------------------------------------------------


def _aliases(width: int, levels: int) -> str:
    lines = ["a0: &a0 [" + ", ".join(["x"] * width) + "]"]
    for level in range(1, levels):
        lines.append(f"a{level}: &a{level} [" + ", ".join([f"*a{level - 1}"] * width) + "]")
    return "\n".join(lines) + "\n"


def _configs(folder: Path) -> Made:
    deep = "timing: " + "[" * 20_000
    digits = "9" * 5000
    yield from _texts(folder, {
        "yaml_laughs": (_aliases(10, 9), "aliases that stand for 10^9 values"),
        "yaml_wide": (_aliases(1000, 3), "aliases that stand for 10^9 values in 3 levels"),
        "yaml_itself": ("timing: &a [*a]\n", "a list that holds itself"),
        "yaml_deep": (deep, "lists 20 000 deep"),
        "yaml_digits": (f"timing:\n  timesteps: {digits}\n", "a number of 5000 digits"),
        "yaml_steps": ("timing:\n  timesteps: -3\n", "T of -3"),
        "yaml_float": ("timing:\n  timesteps: 8.5\n", "T of 8.5"),
        "yaml_nan": ("finetune:\n  lr: .nan\n", "a learning rate of NaN"),
        "yaml_tag": ("timing: !!python/object/apply:os.system [ls]\n", "a tag that would run a program"),
        "yaml_large": ("# " + "x" * 10**7 + "\n", "10 MB"),
        "yaml_bytes": ("\x01\x02", "bytes that are no text"),
    })  # fmt: skip


def _chips(folder: Path) -> Made:
    digits = "9" * 4000
    yield from _texts(folder, {
        "chip_bits": (f"threshold_bits: {digits}\n", "registers of 10^4000 bits"),
        "chip_negative": ("threshold_bits: -4\n", "registers of -4 bits"),
        "chip_table": ("in_channels: [1, 2]\n", "a table that is a list"),
        "chip_laughs": ("in_channels:\n  3x3: {1: 9}\n" + _aliases(1000, 3), "aliases for 10^9 values"),
        "chip_ops": ("ops: [magic]\n", "an op that does not exist"),
    })  # fmt: skip


def _texts(folder: Path, texts: dict[str, tuple[str, str]]) -> Made:
    for name, (text, wrong) in texts.items():
        (folder / f"{name}.yaml").write_text(text)
        yield name, folder / f"{name}.yaml", wrong


# npz -----------------------------------------------------------------------------------------------


def _arrays(folder: Path) -> Made:
    x, y = np.zeros((20, 1, 4, 4), np.uint8), np.arange(20) % 2
    path = folder / "npz_claim.npz"
    np.savez(path, x=x, y=y)
    _with_header(path, "x.npy", b"(20, 1, 4, 4)", b"(%d, 4, 4)" % HUGE)
    yield "npz_claim", path, "an array claims 2^40 numbers"
    path = folder / "npz_bomb.npz"
    with (
        _bomb(path) as archive,
        archive.open("x.npy", "w", force_zip64=True) as file,
    ):
        header = {"descr": "|u1", "fortran_order": False, "shape": (BOMB // 16, 1, 4, 4)}
        np.lib.format.write_array_header_1_0(file, header)
        for _ in range(BOMB // 2**24):
            file.write(bytes(2**24))
    yield "npz_bomb", path, f"a zip bomb of {BOMB} bytes"
    path = folder / "npz_pickle.npz"
    np.savez(path, x=np.array([_Runs()], dtype=object), y=y)
    yield "npz_pickle", path, "pickled objects"
    path = folder / "npz_nan.npz"
    np.savez(path, x=np.full((20, 1, 4, 4), np.nan), y=y)
    yield "npz_nan", path, "NaN"
    path = folder / "npz_labels.npz"
    np.savez(path, x=x, y=y - 5)
    yield "npz_labels", path, "labels below 0"
    path = folder / "npz_classes.npz"
    np.savez(path, x=x, y=y, classes=np.array(HUGE))
    yield "npz_classes", path, "2^40 classes"
    yield "npz_cut", _cut(folder / "honest.npz", folder / "npz_cut.npz"), "the file is cut"


def _with_header(path: Path, member: str, old: bytes, new: bytes) -> None:
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    spaces = b" " * (len(new) - len(old))  # a header has some at its end
    assert old in parts[member]
    assert spaces + b"\n" in parts[member]
    parts[member] = parts[member].replace(old, new, 1).replace(spaces + b"\n", b"\n", 1)
    with zipfile.ZipFile(path, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
