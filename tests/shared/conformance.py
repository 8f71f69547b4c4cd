"""What every engine has to do: `conform(engine)` puts it through all of it, against a slow oracle.

A new engine's test is one call. What the engine refuses is left out, in its own words; plain integer networks
it may not refuse.
"""

from dataclasses import replace

import numpy as np
import oracle
import pytest
import torch
from random_graphs import random_graph

from ann2snn_cli.errors import UsageError
from ann2snn_cli.ir.engine import Request
from ann2snn_cli.ir.ops import Integrate, IntegrateFire


def conform(engine, seeds=range(12), whole=True, may_refuse=False):
    """Hold an engine against the oracle on random graphs; AssertionError says what differs and where.

    Of a `whole` engine: it runs every plain integer network, at every delay, step by step. It may refuse all
    of them only where that is said.
    """
    assert engine.name
    ran = 0
    for seed in seeds:
        graph, samples = random_graph(seed, opaque=seed % 6 == 3, floats=seed % 6 == 5)
        x = {name: torch.tensor(values) for name, values in samples.items()}
        steps = graph.timing.timesteps
        delays = sorted({0, 1, steps // 2, steps - 1, steps})
        delays = [delay for delay in delays if not engine.refusal(graph, Request(x, delay))]
        if rounding_decides(graph, x):
            continue
        if not whole and not delays:
            continue
        if whole and not (graph.real or graph.has_float_weights):
            everything = [Request(x, delay, by_step=True, watch=print) for delay in (0, 1, steps)]
            refusals = [reason for request in everything if (reason := engine.refusal(graph, request))]
            assert not refusals, f"{engine.name} refuses a plain integer network, seed {seed}: {refusals}"
        if not delays:
            continue
        ran += 1
        for delay in delays:
            answers_in_full(engine, graph, x, delay)
        graph = replace(graph, contract=replace(graph.timing, delay=delays[-1]))
        gives_what_is_asked_for(engine, graph, x)
        takes_samples_in_any_number(engine, graph, x)
        goes_on_with_what_is_revised(engine, graph, x)
        refuses_what_is_no_delay(engine, graph, x)
    assert ran > 0 or may_refuse, f"{engine.name} ran nothing"


def neurons(graph):
    """Who is watched and counted."""
    return [node.name for node in graph.of(IntegrateFire, Integrate)]


def agree(got, wanted, graph, name, what):
    """Equal bit for bit, or to rounding where the numbers, or those that a population adds up, are real."""
    got, label = got.double().numpy(), f"{what} of {name}"
    assert got.shape == wanted.shape, f"{label}: {got.shape}, not {wanted.shape}"
    real = graph.has_float_weights or graph.real.intersection((name, *graph[name].inputs))
    equal = np.allclose(got, wanted) if real else np.array_equal(got, wanted)
    assert equal, f"{label} differ at {np.argwhere(~np.isclose(got, wanted))[:3].tolist()}"


def rounding_decides(graph, x):
    """Would a spike come or go if real numbers were rounded otherwise? Then several answers are right."""
    delays = range(graph.timing.timesteps + 1) if graph.real else ()
    for delay in delays:
        one, other = (played(graph, x, delay, factor) for factor in (1 - 1e-12, 1 + 1e-12))
        if any(not np.allclose(one[name].train, other[name].train) for name in one):
            return True
    return False


class Watched:
    """What a watch was shown: parts of the samples, one after the other."""

    def __init__(self):
        self.parts = {}

    def __call__(self, node, activity):
        self.parts.setdefault(node.name, []).append(activity)

    def train(self, name):
        """Of all samples."""
        return torch.cat([part.train for part in self.parts[name]], dim=1)

    def potentials(self, name):
        """Of all samples; None where they were left out."""
        parts = [part.potentials for part in self.parts[name]]
        return None if parts[0] is None else torch.cat(parts, dim=1)


def answers_in_full(engine, graph, x, delay):
    """Spikes, potentials, counts, outputs at the end and by step, and who is shown in which order."""
    wanted = played(graph, x, delay)
    watch = Watched()
    request = Request(x, delay, by_step=True, counts=True, potentials=True, watch=watch)
    request = accepted(engine, graph, request)
    found = engine.run(graph, request)

    assert found.engine == engine.name
    assert set(found.counts) == set(neurons(graph)), "counts are of every population and read-out"
    for name in neurons(graph):
        agree(found.counts[name], wanted[name].train.sum(0), graph, name, f"D={delay}: counts")
    if request.watch is not None:
        assert list(watch.parts) == neurons(graph), "the watch is shown neurons, in the order of the graph"
        for name in neurons(graph):
            agree(watch.train(name), wanted[name].train, graph, name, f"D={delay}: trains")
            agree(watch.potentials(name), wanted[name].potentials, graph, name, f"D={delay}: potentials")
    steps = graph.timing.timesteps
    for place, name in enumerate(graph.outputs):
        sums, unit = wanted[name].train.cumsum(0), float(graph[name].unit)
        elapsed = np.arange(1, steps + 1).reshape(-1, *[1] * (sums.ndim - 1))
        agree(found.outputs[place], sums[-1] * unit / steps, graph, name, f"D={delay}: outputs")
        if request.by_step:
            agree(found.by_step[place], sums * unit / elapsed, graph, name, f"D={delay}: outputs by step")


def accepted(engine, graph, request):
    """The request; without what shows single steps where the engine knows none."""
    if engine.refusal(graph, request):
        request = replace(request, by_step=False, watch=None, potentials=False)
    assert not engine.refusal(graph, request), "it answers a bare request at one delay, and not at another"
    return request


def played(graph, x, delay, factor=1.0):
    """By the oracle; real numbers times a factor."""
    return oracle.play(graph, {name: values.numpy() for name, values in x.items()}, delay, factor)


def gives_what_is_asked_for(engine, graph, x):
    """Nothing more; the graph's own delay where none is given; inputs by name or in order, and unharmed."""
    before = {name: values.clone() for name, values in x.items()}
    watch = Watched()
    request = accepted(engine, graph, Request(x, watch=watch))
    bare = engine.run(graph, request)
    assert (bare.by_step, bare.counts) == (None, None), "steps and counts only where asked for"
    if request.watch is not None:
        assert all(watch.potentials(each) is None for each in neurons(graph)), (
            "no potentials unless asked for"
        )

    request = Request(tuple(x.values()), graph.timing.delay, by_step=True, counts=True)
    full = engine.run(graph, accepted(engine, graph, request))
    for one, other in zip(bare.outputs, full.outputs, strict=True):
        assert torch.equal(one, other), "the graph's own delay, and inputs in order"
    assert all(torch.equal(x[name], before[name]) for name in x), "samples are not written into"


def takes_samples_in_any_number(engine, graph, x):
    """One by one they give what they give together; none gives results of no sample."""
    asked = accepted(engine, graph, Request(x, by_step=True, counts=True))

    def run(some):
        part = {name: values[some] for name, values in x.items()}
        return engine.run(graph, replace(asked, inputs=part))

    whole, none = run(slice(None)), run(slice(0))
    parts = [run(slice(i, i + 1)) for i in range(len(next(iter(x.values()))))]
    for place, name in enumerate(graph.outputs):
        apart = torch.cat([part.outputs[place] for part in parts])
        agree(apart, whole.outputs[place].numpy(), graph, name, "outputs sample by sample")
        assert none.outputs[place].shape == (0, *graph[name].shape), "no samples, no outputs"
        if asked.by_step:
            apart = torch.cat([part.by_step[place] for part in parts], dim=1)
            agree(apart, whole.by_step[place].numpy(), graph, name, "steps sample by sample")
            assert none.by_step[place].shape == (graph.timing.timesteps, 0, *graph[name].shape)
    assert all(none.counts[name].shape == (0, *graph[name].shape) for name in neurons(graph))


def goes_on_with_what_is_revised(engine, graph, x):
    """Each node is shown once with its counts; another one is fired again, and what reads it sees that."""
    changed = {node.name: replace(node.op, bias=node.op.bias + 3) for node in graph.of(IntegrateFire)[::2]}
    seen, watch = {}, Watched()

    def revise(node, counts):
        assert node.name not in seen, "a node is revised once"
        seen[node.name] = counts
        return replace(node, op=changed[node.name]) if node.name in changed else node

    request = accepted(engine, graph, Request(x, counts=True, watch=watch, revise=revise))
    found = engine.run(graph, request)

    wanted = played(graph.with_ops(changed), x, graph.timing.delay)
    assert list(seen) == neurons(graph), "every population and read-out, in the order of the graph"
    for name in neurons(graph):
        if request.watch is not None:
            agree(watch.train(name), wanted[name].train, graph, name, "revised trains")
        agree(found.counts[name], wanted[name].train.sum(0), graph, name, "revised counts")
        if name not in changed:
            agree(seen[name], wanted[name].train.sum(0), graph, name, "counts shown behind revised nodes")
    first = next(iter(changed))
    agree(
        seen[first],
        played(graph, x, graph.timing.delay)[first].train.sum(0),
        graph,
        first,
        "counts shown for revision",
    )


def refuses_what_is_no_delay(engine, graph, x):
    """Whole numbers from 0 to T."""
    for delay in (-1, graph.timing.timesteps + 1, 0.5, "layerwise"):
        with pytest.raises(UsageError, match="the delay is"):
            engine.run(graph, Request(x, delay))
