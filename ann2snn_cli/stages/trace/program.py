"""From a module to a flat list of ATen calls, or an error that names the user's own line.

The only home of torch.export.
"""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import nn
from torch.export import Dim, ExportedProgram, export

from ann2snn_cli import trees
from ann2snn_cli.errors import UnsupportedNetwork
from ann2snn_cli.stages.trace.fixed_batch import fixed_batch, fixes_batch
from ann2snn_cli.types import Inputs, Shape

Program = ExportedProgram


def export_program(network: nn.Module, input_shapes: Sequence[Shape] | Mapping[str, Shape]) -> Program:
    """The network in eval mode as ATen calls; `input_shapes` are those of one sample, in order or by name."""
    modes = {module: module.training for module in network.modules()}  # parts may be frozen on their own
    parameter = next(network.parameters(), torch.zeros(()))
    zeros = partial(torch.zeros, dtype=parameter.dtype, device=parameter.device)
    in_order, by_name = _by_argument(network, input_shapes)
    arguments = tuple(zeros(2, *shape) for shape in in_order)
    named = {name: zeros(2, *shape) for name, shape in by_name.items()}
    network.eval()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.export's own deprecations are not the user's concern
            _try_eager(network, named or arguments)
            batch = {0: Dim.DYNAMIC}
            sizes = dict.fromkeys(named, batch) if named else tuple(batch for _ in arguments)
            exported = partial(export, network, arguments, named, dynamic_shapes=sizes)
            try:
                program = exported()
            except Exception as error:
                if not fixes_batch(error):
                    raise
                raise fixed_batch(exported, _user_line(error, network)) from error
            flat: Program = program.run_decompositions({})
            return flat
    except UnsupportedNetwork:
        raise
    except Exception as error:
        raise UnsupportedNetwork(
            f"the network cannot be exported: {_first_line(error)}",
            where=_user_line(error, network),
            remedy="forward() must not branch on values (`if x.sum() > 0`, `.item()`) or on the batch size; "
            "use torch.where, or split the network at that point",
        ) from error
    finally:
        for module, training in modes.items():
            module.training = training


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
        remedy="give samples by these names, or in the order of the inputs",
    )


def _try_eager(network: nn.Module, samples: Inputs) -> None:
    """Run once as it is: what fails here is the network or the shape, not the export."""
    try:
        with torch.no_grad():
            trees.call(network, samples)
    except Exception as error:
        shapes = ", ".join(str(tuple(sample.shape[1:])) for sample in trees.leaves(samples))
        raise UnsupportedNetwork(
            f"the network does not run on samples of shape {shapes}: {_first_line(error)}",
            where=_user_line(error, network),
            remedy="check the network against the dataset's shape (ann2snn ls shows both)",
        ) from error


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]


def _user_line(error: BaseException, network: nn.Module) -> str:
    """The innermost line of the traceback that is not torch's or ours; an export error quotes it."""
    if quoted := re.findall(r'File "([^"]+)", line (\d+), in (\w+)', str(error)):
        own = [place for place in quoted if "/torch/" not in place[0]]
        if own:
            path, line, function = own[-1]
            return f"{path}:{line} in {function}"
    place, trace_back = type(network).__name__, error.__traceback__
    while trace_back is not None:
        path = trace_back.tb_frame.f_code.co_filename
        if "/torch/" not in path and path != __file__ and not path.startswith("<"):
            place = f"{path}:{trace_back.tb_lineno} in {trace_back.tb_frame.f_code.co_name}"
        trace_back = trace_back.tb_next
    return place
