"""Running the integer graph on the samples of a pack, and comparing what comes out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import version as installed
from importlib.util import find_spec
from math import prod
from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto, checker, load
from onnx.reference import ReferenceEvaluator

from ann2snn_cli.twins.onnx.network import input_element, input_names, model
from ann2snn_cli.twins.replay import Activity, Array, Network, Outcome, Pack, compare, recorded

Values = dict[str, Array]  # of inputs or outputs, by name
Run = Callable[[Values], Values]  # of stimuli [T, batch, ...]

_MEMORY = 2**30  # bytes that a run may take, about
_BYTES = 40  # that a value of a step takes: itself, its currents, and the copies that products make


# Runtimes ------------------------------------------------------------------------------------------


def _reference(network: ModelProto) -> Run:
    evaluator = ReferenceEvaluator(network)
    return lambda stimuli: dict(zip(evaluator.output_names, evaluator.run(None, stimuli), strict=True))


def _onnxruntime(network: ModelProto) -> Run:
    runtime = import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors only
    session = runtime.InferenceSession(
        network.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return lambda stimuli: dict(zip(names, session.run(names, stimuli), strict=True))


_RUNTIMES: dict[str, tuple[str, str, Callable[[ModelProto], Run]]] = {
    # by name: the package, the oldest version, how it is started
    "reference": ("onnx", "1.22", _reference),  # older ones forget all states of a Scan but the first
    "onnxruntime": ("onnxruntime", "1.14", _onnxruntime),  # the first that knows opset 18
}


def unavailable(runtime: str = "reference") -> str:
    """Why the graph cannot be run here, in one line; empty if it can."""
    package, oldest, _ = _RUNTIMES[runtime]
    remedy = f"pip install '{package}>={oldest}'"
    if not find_spec(package):
        return f"{package} is not installed: {remedy}"
    if _number(installed(package)) < _number(oldest):
        return f"{package} {installed(package)} cannot run the graph: {remedy}"
    return ""


def _number(release: str) -> tuple[int, int]:
    """Major and minor, to compare."""
    major, minor, *_ = release.split(".")
    return int(major), int(minor)


def version(runtime: str = "reference") -> str:
    """Name the package that runs the graph, with its version."""
    package, *_ = _RUNTIMES[runtime]
    return f"{package} {installed(package)}"


# Verifying -----------------------------------------------------------------------------------------


def verify(pack: Pack, samples: Sequence[str], work: Path, runtime: str = "reference") -> Outcome:
    """Write the graph to `work`, check the file, run it on the samples, and compare all that is recorded.

    `runtime` is "reference" (onnx.reference, which comes with onnx) or "onnxruntime". Raises `Damaged`,
    naming the layers, where int32 does not hold every sum.
    """
    path = work / "network.onnx"
    path.write_bytes(model(pack.network).SerializeToString(deterministic=True))
    checker.check_model(path, full_check=True)
    *_, start = _RUNTIMES[runtime]
    run, outcome = start(load(path)), Outcome()
    portion = max(1, _MEMORY // (_BYTES * _values(pack.network)))
    for first in range(0, len(samples), portion):
        names = samples[first : first + portion]
        outputs = run(_stimuli(pack, names))
        for i, name in enumerate(names):
            outcome.add(_compare(pack, name, i, outputs))
    return outcome


def _values(network: Network) -> int:
    """How many values a sample has in all steps."""
    return network.steps * sum(prod(layer["shape"]) for layer in network.layers)


def _stimuli(pack: Pack, names: Sequence[str]) -> Values:
    """The stimuli of the samples, the same at every step: [T, samples, ...], of the types the graph takes."""
    shown, called = [pack.stimulus(name) for name in names], input_names(pack.network)
    found = {}
    for layer in pack.network.inputs:
        narrow = input_element(layer) == TensorProto.UINT8
        values = np.stack([each[layer["name"]] for each in shown]).astype(np.uint8 if narrow else np.int32)
        train = np.broadcast_to(values, (pack.network.steps, *values.shape))
        found[called[layer["name"]]] = np.ascontiguousarray(train)
    return found


def _compare(pack: Pack, sample: str, i: int, outputs: Values) -> Outcome:
    """Hold the i-th sample of a run against what the pack expects."""
    activity = {}
    for layer in recorded(pack):
        potentials = outputs[f"potentials/{layer['name']}"][:, i].astype(np.int64)
        spikes = outputs.get(f"spikes/{layer['name']}")
        # What never fires passes on by how much its potential grew.
        train = np.diff(potentials, axis=0, prepend=0) if spikes is None else spikes[:, i].astype(np.int64)
        activity[layer["name"]] = Activity(train, potentials)
    sums = {name: outputs[f"result/{name}"][i].astype(np.int64) for name in pack.network.outputs}
    return compare(pack, sample, activity, sums)
