"""A SPIKING graph as a torch module: its tensors are buffers, and these are the truth.

A node `layer.0` is a module of that name, and its numbers are buffers: `layer.0.weight`, `relu.threshold`.
They are read, written and loaded as those of any module; the next use computes with what they hold then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ann2snn_cli.errors import Ann2SnnError, BadWeights
from ann2snn_cli.ir.graph import Graph
from ann2snn_cli.ir.ops import named_tensors
from ann2snn_cli.ir.plausible import refuse_implausible
from ann2snn_cli.ir.validate import validate, validate_exact

AT_MOST_LISTED = 5


class Layer(nn.Module):
    """The numbers of one node, and the layers whose names begin with its name."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Layer:
        """Follow `.to(device)`. `.half()` and the like change nothing: these numbers are exact or wrong."""

        def exact(tensor: Tensor) -> Tensor:
            changed = fn(tensor)
            return changed if changed.dtype == tensor.dtype else tensor.to(changed.device)

        super()._apply(exact, recurse)  # type: ignore[no-untyped-call]
        return self


class GraphModule(nn.Module):
    """A graph whose tensors are buffers of this module."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self._form = graph.to("meta")  # all of the graph but its numbers
        self._known: Graph | None = graph  # the graph of what the buffers held at the last use
        self._names = [self._hold(*named) for named in _tensors(graph)]

    def _hold(self, node: str, name: str, tensor: Tensor) -> str:
        """Make a buffer of a tensor, in a module of the node's name; its own name, which no other has."""
        module: nn.Module = self
        path = []
        for part in node.split("."):
            part += "_" * (part not in module._modules and _is_taken(module, part))
            if part not in module._modules:
                module.add_module(part, Layer())
            module = module.get_submodule(part)
            path.append(part)
        name += "_" * (name in module._modules or _is_taken(module, name))
        module.register_buffer(name, tensor.detach().clone())
        return ".".join((*path, name))

    @property
    def graph(self) -> Graph:
        """The graph of what the buffers hold; BadWeights where that breaks its rules."""
        held = [self._number(name) for name in self._names]
        if any(tensor.is_meta for tensor in held):
            raise BadWeights("the SNN is on the device meta, which holds no numbers", remedy="load it again")
        if self._known is None or not _are_same(held, [each for *_, each in _tensors(self._known)]):
            self._known = self._checked(held)
        return self._known

    def _number(self, name: str) -> Tensor:
        layer, _, own = name.rpartition(".")
        tensor: Tensor = getattr(self.get_submodule(layer), own)
        return tensor

    def _checked(self, tensors: Sequence[Tensor]) -> Graph:
        """The graph with copies of these tensors, after all of its rules were held against it."""
        copies = iter([tensor.detach().clone() for tensor in tensors])
        try:
            graph = self._form.map_tensors(lambda _: next(copies))
            return validate_exact(validate(refuse_implausible(graph)))
        except Ann2SnnError as error:
            remedy = "load numbers of an SNN that was made of the same network by the same settings"
            what = f"the numbers break the rules of the SNN: {error.what}"
            raise BadWeights(what, where=error.where, remedy=remedy) from error

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """As of any module; BadWeights for numbers that do not fit, before any is loaded."""
        if strict:
            own = set(self._names)
            complaints = [f"{name} is missing" for name in own - state_dict.keys()]
            complaints += [f"{name} is no number of this SNN" for name in state_dict.keys() - own]
            _refuse(complaints)
        return super().load_state_dict(state_dict, strict, assign)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *others: Any) -> None:
        """Torch calls this before it loads the layers; also where this is a part of another module."""
        own = {name: self._number(name) for name in self._names}
        given = {name: state_dict[prefix + name] for name in own if prefix + name in state_dict}
        _refuse([f"{name} {why}" for name, each in given.items() for why in _unlike(own[name], each)])
        self._known = self._checked([given.get(name, own[name]).to(own[name]) for name in self._names])
        super()._load_from_state_dict(state_dict, prefix, *others)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> GraphModule:
        """Follow `.to(device)`, with all that was proved of the graph."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self._known is not None:
            self._known = self._known.to(fn(torch.zeros(())).device)
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Of a copy or a pickle: the buffers, and not the graph that was made of them."""
        return {**self.__dict__, "_known": None}


def _is_taken(module: nn.Module, name: str) -> bool:
    """Does every such module have an attribute of that name?"""
    return hasattr(type(module), name) or name in vars(module)


def _tensors(graph: Graph) -> Iterator[tuple[str, str, Tensor]]:
    """The tensors of a graph, in the order of `Graph.map_tensors`: node, name, tensor."""
    for node in graph.nodes:
        yield from ((node.name, name, tensor) for name, tensor in named_tensors(node.op))
        if node.unit is not None:
            yield node.name, "unit", node.unit


def _are_same(some: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    return all(
        a.dtype == b.dtype and a.device == b.device and torch.equal(a, b)
        for a, b in zip(some, others, strict=True)
    )


def _refuse(complaints: list[str]) -> None:
    if complaints:
        more = f"; and {len(complaints) - AT_MOST_LISTED} more" * (len(complaints) > AT_MOST_LISTED)
        what = f"the state dict does not fit: {'; '.join(sorted(complaints)[:AT_MOST_LISTED])}{more}"
        remedy = "give the state_dict() of an SNN that was made of the same network by the same settings"
        raise BadWeights(what, remedy=remedy)


def _unlike(own: Tensor, given: Any) -> Iterator[str]:
    """Why a number cannot take the place of another."""
    if not isinstance(given, Tensor):
        yield f"is of type {type(given).__name__}, and no tensor"
    elif given.shape != own.shape:
        yield f"has the shape {list(given.shape)}, and not {list(own.shape)}"
    elif given.is_meta or not _is_of_kind(given, own.dtype):
        yield f"is of type {given.dtype}, and not {own.dtype}"
    elif given.dtype != own.dtype and not torch.equal(given.to(own.dtype).to(given.dtype), given):
        yield f"holds what {own.dtype} cannot hold"


def _is_of_kind(given: Tensor, dtype: torch.dtype) -> bool:
    """Whole numbers are not given for real ones, nor real ones for whole."""
    kinds = (given.dtype.is_floating_point, given.dtype.is_complex, given.dtype == torch.bool)
    return kinds == (dtype.is_floating_point, dtype.is_complex, dtype == torch.bool)
