"""From a module to a flat list of ATen calls, or an error that names the user's own line.

The only home of torch.export.
"""

from __future__ import annotations

import contextlib
import inspect
import re
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram, export
from torch.export.graph_signature import OutputKind
from torch.fx import Node as FxNode

from ann2snn_cli import trees
from ann2snn_cli.errors import UnsupportedNetwork
from ann2snn_cli.stages.trace import forms
from ann2snn_cli.stages.trace.fixed_batch import fixed_batch, fixes_batch
from ann2snn_cli.stages.trace.quiet import quiet
from ann2snn_cli.types import Inputs, Shape

Program = ExportedProgram

_COMMON = {
    "aten.adaptive_avg_pool2d.default", "aten.add.Tensor", "aten.avg_pool2d.default",
    "aten.batch_norm.default", "aten.conv2d.default", "aten.conv_transpose2d.input",
    "aten.flatten.using_ints", "aten.hardtanh.default", "aten.linear.default",
    "aten.max_pool2d.default", "aten.pad.default", "aten.relu.default", "aten.slice.Tensor",
}  # fmt: skip
_OURS = (__file__, trees.__file__, contextlib.__file__)


def export_program(
    network: nn.Module, input_shapes: Sequence[Shape] | Mapping[str, Shape]
) -> tuple[Program, bool]:
    """The network in eval mode as ATen calls, and whether a second run gave the same as the first.

    `input_shapes` are those of one sample, in order or by name.
    """
    forms.refuse(network)
    in_order, by_name = _by_argument(network, input_shapes)
    samples = {name: two_samples(shape) for name, shape in by_name.items()} or [
        two_samples(each) for each in in_order
    ]
    with forms.reading(network), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.export's own deprecations are not the user's concern
        repeats = _try_eager(network, samples)
        with quiet():
            program = _exported(network, trees.as_taken(network, samples))
    return program, repeats


def refuse_changing(program: Program, network: nn.Module) -> None:
    """Raise for a network that gives something else at every run, though no call in it draws random numbers.

    A call that does is refused by its name, or has a rule of a user's own.
    """
    if not any(map(_draws, program.graph.nodes)):
        raise UnsupportedNetwork(
            "a second run of the network gives something else than the first",
            where=type(network).__name__,
            remedy="forward() must not draw random numbers (nn.Dropout rests in eval mode), nor keep a state",
        )


def results_of(program: Program) -> list[Any]:
    """What forward() returns; beside it the program gives inputs and buffers that forward() changes."""
    (results,) = program.graph.output_node().args
    given = results if isinstance(results, list | tuple) else (results,)
    specs = program.graph_signature.output_specs
    return [each for each, spec in zip(given, specs, strict=True) if spec.kind is OutputKind.USER_OUTPUT]


def _draws(call: FxNode) -> bool:
    target = call.target
    return isinstance(target, torch._ops.OpOverload) and torch.Tag.nondeterministic_seeded in target.tags


def two_samples(shape: Shape) -> Tensor:
    """Two samples of numbers from 0 to 1, always the same."""
    return torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))


def _exported(network: nn.Module, samples: Inputs) -> Program:
    arguments, named = ((), dict(samples)) if isinstance(samples, Mapping) else (tuple(samples), {})
    try:
        sizes = _sizes(network, arguments, named)
        exported = partial(export, network, arguments, named, dynamic_shapes=sizes)
        try:
            program = exported()
        except Exception as error:
            if not fixes_batch(error):
                raise
            raise fixed_batch(exported, _user_line(error, network)) from error
        return program if _is_plain(program) else program.run_decompositions({})
    except UnsupportedNetwork:
        raise
    except Exception as error:
        by_values = "data-dependent" in str(error)
        raise UnsupportedNetwork(
            "forward() decides by the values of a tensor, which no export can follow"
            if by_values
            else f"the network cannot be exported: {_first_line(error)}",
            where=_user_line(error, network),
            remedy="forward() must not branch on values (`if x.sum() > 0`, `.item()`) or on the batch size; "
            "use torch.where, or split the network at that point",
        ) from error


def _is_plain(program: Program) -> bool:
    """Is it made of common layers alone? Others torch rewrites first: calls in place, composite ones, blocks.

    That takes twice as long as the export itself.
    """
    calls = [node for node in program.graph.nodes if node.op == "call_function"]
    return all(str(call.target) in _COMMON or _is_dropout_in_eval(call) for call in calls)


def _is_dropout_in_eval(call: FxNode) -> bool:
    return str(call.target) == "aten.dropout.default" and call.args[2:] == (False,)


def _sizes(network: nn.Module, arguments: tuple[Tensor, ...], named: dict[str, Tensor]) -> dict[str, Any]:
    """The first axis of every input is the batch's: by argument, as forward binds them (`*inputs` too)."""
    batch = {0: Dim.DYNAMIC}

    def sizes(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: sizes(each) for key, each in value.items()}
        return tuple(map(sizes, value)) if isinstance(value, tuple) else batch

    bound: dict[str, Any] = sizes(inspect.signature(network.forward).bind(*arguments, **named).arguments)
    return bound


def _by_argument(
    network: nn.Module, input_shapes: Sequence[Shape] | Mapping[str, Shape]
) -> tuple[Sequence[Shape], dict[str, Shape]]:
    """The shapes in order, or by name: then in the order in which forward takes them."""
    signature = inspect.signature(network.forward)
    by_name = dict(input_shapes) if isinstance(input_shapes, Mapping) else {}
    in_order: Sequence[Shape] = () if isinstance(input_shapes, Mapping) else input_shapes
    try:
        signature.bind(*in_order, **by_name)
    except TypeError:
        raise _other_inputs(network, signature, input_shapes) from None
    return in_order, {name: by_name[name] for name in [*signature.parameters, *by_name] if name in by_name}


def _other_inputs(
    network: nn.Module, signature: inspect.Signature, given: Sequence[Shape] | Mapping[str, Shape]
) -> UnsupportedNetwork:
    taken = ", ".join(signature.parameters) or "none"
    there = ", ".join(given) if isinstance(given, Mapping) else f"{len(given)} in order"
    return UnsupportedNetwork(
        f"the network takes the inputs {taken}, there are samples for {there}",
        where=f"{type(network).__name__}.forward",
        remedy="give samples by these names, or in the order of the inputs; with labels ((x1, x2), labels)",
    )


def _try_eager(network: nn.Module, samples: Inputs) -> bool:
    """Run twice as it is: what fails here is the network or the shape. Does it give the same again?"""
    try:
        with torch.no_grad():
            first, second = trees.call(network, samples), trees.call(network, samples)
    except Exception as error:
        if (refused := _takes_whole_numbers(network, samples, error)) is not None:
            raise refused from error
        shapes = ", ".join(str(tuple(sample.shape[1:])) for sample in trees.leaves(samples))
        narrow = forms.narrow_types(network)
        other = f"; or convert network.float(), as torch runs little in {narrow[0]}" if narrow else ""
        raise UnsupportedNetwork(
            f"the network does not run on samples of shape {shapes}: {_first_line(error)}",
            where=_user_line(error, network),
            remedy="check the network against the dataset's shape (ann2snn ls shows both); the first axis of "
            f"data counts samples: a single one is x[None]{other}",
        ) from error
    return all(map(alike, first, second))


def alike(one: Tensor, other: Tensor) -> bool:
    """The same but for the last bits, in which a GPU may differ from run to run."""
    one, other = one.double(), other.double()
    return torch.allclose(
        one, other, rtol=1e-4, atol=1e-4 * float(one.abs().nan_to_num().max()), equal_nan=True
    )


def _takes_whole_numbers(network: nn.Module, samples: Inputs, error: Exception) -> UnsupportedNetwork | None:
    """The refusal of a network that runs on whole numbers, and not on real ones."""
    try:
        with torch.no_grad():
            trees.call(network, trees.map_leaves(lambda values: torch.zeros_like(values).long(), samples))
    except Exception:
        return None
    return UnsupportedNetwork(
        "the network takes whole numbers, such as tokens of an embedding: an SNN is given real ones",
        where=_user_line(error, network),
        remedy="tokens up to 255: write embedding(x.long()) in forward(), and give them as floats; or split "
        "it behind the embedding: convert the rest, and give it embedding(x) as its samples",
    )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]


def _user_line(error: BaseException, network: nn.Module) -> str:
    """The innermost line of the traceback that is not torch's or ours, and the layer that was called.

    An export error quotes the line.
    """
    if quoted := re.findall(r'File "([^"]+)", line (\d+), in (\w+)', str(error)):
        own = [place for place in quoted if "/torch/" not in place[0]]
        if own:
            path, line, function = own[-1]
            return f"{path}:{line} in {function}"
    names = {id(module): name for name, module in network.named_modules()}
    line, layer, trace_back = "", "", error.__traceback__
    while trace_back is not None:
        frame = trace_back.tb_frame
        path, called = frame.f_code.co_filename, frame.f_locals.get("self")
        if "/torch/" not in path and path not in _OURS and not path.startswith("<"):
            line = f"{path}:{trace_back.tb_lineno} in {frame.f_code.co_name}"
        if name := names.get(id(called)):
            layer = f"{name} ({type(called).__name__})"
        trace_back = trace_back.tb_next
    return ", ".join(filter(None, (layer, line))) or type(network).__name__
