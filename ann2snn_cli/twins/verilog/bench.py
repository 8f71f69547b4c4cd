"""The test bench of one network, generated from its manifest: instances, turns, files, comparison."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from ann2snn_cli.twins.replay import Layer, Pack, recorded
from ann2snn_cli.twins.verilog.files import SAMPLE, File, expectations, parameters, stimuli
from ann2snn_cli.twins.verilog.parts import Part, part
from ann2snn_cli.twins.verilog.refusals import refuse
from ann2snn_cli.twins.verilog.wiring import Wiring, bits, declaration, fires, instance, listens, size, string

TEMPLATE = Path(__file__).parent / "bench.v.template"


def bench(pack: Pack) -> str:
    """The text of `bench.v`, for all samples of a pack. Raises `Damaged` with all that it cannot do."""
    refuse(pack)
    wiring = Wiring(pack)
    parts = {layer["name"]: part(wiring, layer) for layer in pack.network.layers}
    watched = {_board_name(wiring, layer): _board(wiring, pack, layer) for layer in _watched(pack)}
    results = {_result_name(wiring, layer): _result(wiring, layer) for layer in _outputs(wiring, pack)}
    names = [*watched, *results]
    return TEMPLATE.read_text("utf-8").format(
        steps=pack.network.steps,
        layers=len(parts),
        delay=wiring.delay,
        depth=wiring.depth,
        network=_indent(1, (_section(wiring, wiring.layers[name], each) for name, each in parts.items())),
        boards=_indent(1, [*watched.values(), *results.values()]),
        steps_of_layers=_indent(3, _steps_of_layers(wiring, parts)),
        longest=max(map(size, pack.network.layers)) // 4 + 32,  # digits of a line of spikes, or of a word
        loads=_indent(3, _loads(wiring, pack, parts)),
        compares=_indent(3, (f"{name}.compare(sample, checked, mismatches);" for name in names)),
    )


def _indent(levels: int, texts: Iterable[str]) -> str:
    lines = "\n".join(texts).split("\n")
    return "\n".join(" " * 4 * levels + line if line else "" for line in lines)


def _section(wiring: Wiring, layer: Layer, each: Part) -> str:
    """A layer's wires and instances, below a line that says what it is."""
    prefix, name = wiring.prefix(layer), json.dumps(layer["name"])
    inputs = ", ".join(wiring.prefix(source) for source in wiring.sources(layer))
    head = f"// {prefix}: {layer['kind']} {name} {layer['shape']}{' of ' if inputs else ''}{inputs}"
    return "\n".join(["", head, declaration(prefix, layer), each.text])


# Comparing -----------------------------------------------------------------------------------------


def _watched(pack: Pack) -> list[Layer]:
    """The layers of which something is recorded."""
    potentials = pack.manifest["recorded"]["potentials"]
    return [layer for layer in recorded(pack) if fires(layer) or potentials]


def _outputs(wiring: Wiring, pack: Pack) -> list[Layer]:
    return [wiring.layers[name] for name in pack.network.outputs]


def _board_name(wiring: Wiring, layer: Layer) -> str:
    return f"seen_{wiring.instance(layer)}"


def _result_name(wiring: Wiring, layer: Layer) -> str:
    return f"result_{wiring.instance(layer)}"


def _board(wiring: Wiring, pack: Pack, layer: Layer) -> str:
    held = pack.manifest["recorded"]
    place, prefix = wiring.places[layer["name"]], wiring.prefix(layer)
    parameters = {
        "NAME": string(layer["name"]),
        "NEURONS": size(layer),
        "BITS": layer["potential"]["bits"],
        "STEPS": held["steps"],
        "SPIKES": int(fires(layer)),
        "POTENTIALS": int(held["potentials"]),
    }
    ports = {
        "clock": f"clock[{place}]",
        "turn": f"turn[{place}]{' & fire' if fires(layer) else ''}",
        "step": "step",
        "spike": f"{prefix}_valid",
        "address": f"{prefix}_address",
        "potential": f"{prefix}_potential",
    }
    return instance("scoreboard", _board_name(wiring, layer), parameters, ports)


def _result(wiring: Wiring, layer: Layer) -> str:
    prefix, key = wiring.prefix(layer), json.dumps(layer["name"])
    parameters = {
        "NAME": string(layer["name"]),
        "KEY": string(key),
        "KEY_LENGTH": len(key),
        "NEURONS": size(layer),
        "X_BITS": bits(layer),
    }
    ports = {"clock": f"clock[{wiring.places[layer['name']]}]", "start": "start", **listens(prefix)}
    return instance("result", _result_name(wiring, layer), parameters, ports)


# Turns ---------------------------------------------------------------------------------------------


def _steps_of_layers(wiring: Wiring, parts: dict[str, Part]) -> Iterator[str]:
    """A line a layer: its turns at one step of the network; those that hear it are a bit each."""
    for name, each in parts.items():
        layer = wiring.layers[name]
        if each.turns:
            hearing = sum(1 << place for place in _hearing(wiring, parts, layer))
            task = "population" if fires(layer) else "layer"
            place, values, begins = wiring.places[name], size(layer), f"{wiring.before[name]} * DELAY"
            yield f"{task}({place}, {values}, {len(parts)}'h{hearing:x}, {begins});"


def _hearing(wiring: Wiring, parts: dict[str, Part], layer: Layer) -> set[int]:
    """The places of the layers that a layer's events reach, also past those that only pass them on."""
    found: set[int] = set()
    speaking = {layer["name"]}
    for name, other in wiring.layers.items():
        if speaking & set(other["inputs"]):
            found.add(wiring.places[name])
            if not parts[name].turns:
                speaking.add(name)
    return found


# Files ---------------------------------------------------------------------------------------------


def _loads(wiring: Wiring, pack: Pack, parts: dict[str, Part]) -> Iterator[str]:
    """A line a file: its path, its words, the memory that it fills."""
    for file in parameters(pack):
        yield _load(file, parts[file.layer["name"]].memories[file.role])
    for file in stimuli(pack):
        yield _load(file, f"{wiring.instance(file.layer)}.value")
    for file in expectations(pack):
        yield _load(file, f"{_board_name(wiring, file.layer)}.expected_{file.role}")
    yield f"{_path(f'expect/{SAMPLE}/result.json')}"
    yield from (f"{_result_name(wiring, layer)}.load(path, complete);" for layer in _outputs(wiring, pack))


def _load(file: File, memory: str) -> str:
    return f"{_path(file.path)} count({file.words}); $readmemh(path, {memory});"


def _path(path: str) -> str:
    """Sets `path` to a file of the pack."""
    given = "pack, sample" if SAMPLE in path else "pack"
    return f'$sformat(path, "%0s/{path.replace(SAMPLE, "%0s")}", {given});'
