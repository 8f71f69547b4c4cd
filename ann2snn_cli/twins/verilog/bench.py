"""The test bench of one network, generated from its manifest: instances, schedule, files, comparison."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from ann2snn_cli.twins.replay import Layer, Pack, recorded
from ann2snn_cli.twins.verilog.files import SAMPLE, File, expectations, parameters, stimulus
from ann2snn_cli.twins.verilog.parts import Part, part
from ann2snn_cli.twins.verilog.refusals import refuse
from ann2snn_cli.twins.verilog.wiring import Wiring, bits, declaration, instance, listens, size, string

TEMPLATE = Path(__file__).parent / "bench.v.template"


def bench(pack: Pack) -> str:
    """The text of `bench.v`, for all samples of a pack. Raises `Damaged` with all that it cannot do."""
    refuse(pack)
    of = Wiring(pack)
    parts = {layer["name"]: part(of, layer) for layer in pack.network.layers}
    watched = {_board_name(of, layer): _board(of, pack, layer) for layer in _watched(pack)}
    results = {_result_name(of, layer): _result(of, layer) for layer in _outputs(of, pack)}
    names = [*watched, *results]
    return TEMPLATE.read_text("utf-8").format(
        steps=pack.network.steps,
        layers=len(parts),
        layerwise=int(of.layerwise),
        network=_indent(1, (_section(of, of.layers[name], each) for name, each in parts.items())),
        boards=_indent(1, [*watched.values(), *results.values()]),
        schedule=_indent(3, _schedule(of, parts)),
        longest=max(map(size, pack.network.layers)) // 4 + 32,  # digits of a line of spikes, or of a word
        loads=_indent(3, _loads(of, pack, parts)),
        compares=_indent(3, (f"{name}.compare(sample, checked, mismatches);" for name in names)),
    )


def _indent(levels: int, texts: Iterable[str]) -> str:
    lines = "\n".join(texts).split("\n")
    return "\n".join(" " * 4 * levels + line if line else "" for line in lines)


def _section(of: Wiring, layer: Layer, each: Part) -> str:
    """A layer's wires and instances, below a line that says what it is."""
    prefix, name = of.prefix(layer), json.dumps(layer["name"])
    inputs = ", ".join(of.prefix(source) for source in of.sources(layer))
    head = f"// {prefix}: {layer['kind']} {name} {layer['shape']}{' of ' if inputs else ''}{inputs}"
    return "\n".join(["", head, declaration(prefix, layer), each.text])


# Comparing -----------------------------------------------------------------------------------------


def _watched(pack: Pack) -> list[Layer]:
    """The layers of which something is recorded."""
    potentials = pack.manifest["recorded"]["potentials"]
    return [layer for layer in recorded(pack) if layer["kind"] == "integrate_fire" or potentials]


def _outputs(of: Wiring, pack: Pack) -> list[Layer]:
    return [of.layers[name] for name in pack.network.outputs]


def _board_name(of: Wiring, layer: Layer) -> str:
    return f"seen_{of.instance(layer)}"


def _result_name(of: Wiring, layer: Layer) -> str:
    return f"result_{of.instance(layer)}"


def _board(of: Wiring, pack: Pack, layer: Layer) -> str:
    held, fires = pack.manifest["recorded"], layer["kind"] == "integrate_fire"
    place, prefix = of.places[layer["name"]], of.prefix(layer)
    parameters = {
        "NAME": string(layer["name"]),
        "NEURONS": size(layer),
        "BITS": layer["potential"]["bits"],
        "STEPS": held["steps"],
        "SPIKES": int(fires),
        "POTENTIALS": int(held["potentials"]),
    }
    ports = {
        "clock": f"clock[{place}]",
        "turn": f"turn[{place}]{' & fire' if fires else ''}",
        "step": "step",
        "spike": f"{prefix}_valid",
        "address": f"{prefix}_address",
        "potential": f"{prefix}_potential",
    }
    return instance("scoreboard", _board_name(of, layer), parameters, ports)


def _result(of: Wiring, layer: Layer) -> str:
    prefix, key = of.prefix(layer), json.dumps(layer["name"])
    parameters = {
        "NAME": string(layer["name"]),
        "KEY": string(key),
        "KEY_LENGTH": len(key),
        "NEURONS": size(layer),
        "X_BITS": bits(layer),
    }
    ports = {"clock": f"clock[{of.places[layer['name']]}]", "start": "start", **listens(prefix)}
    return instance("result", _result_name(of, layer), parameters, ports)


# The schedule --------------------------------------------------------------------------------------


def _schedule(of: Wiring, parts: dict[str, Part]) -> Iterator[str]:
    """Stepwise: at every step all layers. Layerwise: of every layer all steps."""
    turning = [of.layers[name] for name, each in parts.items() if each.turns]
    turns = {layer["name"]: _turns(of, parts, layer) for layer in turning}
    loop = "for (t = 0; t < STEPS; t = t + 1)"
    if not of.layerwise:
        yield from (f"{loop} begin", *(f"    {text}" for text in turns.values()), "end")
        return
    for layer in turning:
        rounds = f"{loop} {turns[layer['name']]}"
        if layer["kind"] == "integrate_fire":
            yield from ("integrate = 1; fire = 0;", rounds, "integrate = 0; fire = 1;")
        yield rounds


def _turns(of: Wiring, parts: dict[str, Part], layer: Layer) -> str:
    """A round of turns of one layer; those that hear it are a bit each."""
    hearing = sum(1 << place for place in _hearing(of, parts, layer))
    return f"turns({of.places[layer['name']]}, {size(layer)}, {len(parts)}'h{hearing:x}, t);"


def _hearing(of: Wiring, parts: dict[str, Part], layer: Layer) -> set[int]:
    """The places of the layers that a layer's events reach, also past those that only pass them on."""
    found: set[int] = set()
    speaking = {layer["name"]}
    for name, other in of.layers.items():
        if speaking & set(other["inputs"]):
            found.add(of.places[name])
            if not parts[name].turns:
                speaking.add(name)
    return found


# Files ---------------------------------------------------------------------------------------------


def _loads(of: Wiring, pack: Pack, parts: dict[str, Part]) -> Iterator[str]:
    """A line a file: its path, its words, the memory that it fills."""
    for file in parameters(pack):
        yield _load(file, parts[file.layer["name"]].memories[file.role])
    shown = stimulus(pack)
    yield _load(shown, f"{of.instance(shown.layer)}.value")
    for file in expectations(pack):
        yield _load(file, f"{_board_name(of, file.layer)}.expected_{file.role}")
    yield f"{_path(f'expect/{SAMPLE}/result.json')}"
    yield from (f"{_result_name(of, layer)}.load(path, complete);" for layer in _outputs(of, pack))


def _load(file: File, memory: str) -> str:
    return f"{_path(file.path)} count({file.words}); $readmemh(path, {memory});"


def _path(path: str) -> str:
    """Sets `path` to a file of the pack."""
    given = "pack, sample" if SAMPLE in path else "pack"
    return f'$sformat(path, "%0s/{path.replace(SAMPLE, "%0s")}", {given});'
