"""The forms a network may come in: what is wrapped around it is taken off, what cannot be read is refused.

A network stays its owner's. While it is read (`reading`) it is in eval mode, and what observes or fakes a
quantization stands aside; afterwards every module holds what it held before.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.nn.parameter import is_lazy

from ann2snn_cli import trees
from ann2snn_cli.errors import UnsupportedNetwork, UsageError
from ann2snn_cli.types import Inputs, InputShapes

# What only runs another module, by the name of its class, and where it keeps that module.
_WRAPPERS = {
    "OptimizedModule": "_orig_mod",  # torch.compile
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "AveragedModel": "module",
}
_QUANTIZED = ("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torch.ao.nn.sparse.quantized")
_OBSERVERS = ("ObserverBase", "FakeQuantizeBase")


def unwrapped(network: Any) -> nn.Module:
    """The network itself, without what torch put around it; UsageError for what is no network."""
    if isinstance(network, ExportedProgram):
        network = network.module()
    if not isinstance(network, nn.Module):
        word = f"the class {network.__name__}" if isinstance(network, type) else f"a {type(network).__name__}"
        raise UsageError(f"the network is {word}, not a torch.nn.Module", remedy="give the module itself")
    found: nn.Module = network
    while (inner := _wrapped(found)) is not None:
        found = inner
    return found


def materialised(network: nn.Module, shapes: InputShapes) -> nn.Module:
    """The network itself in eval mode; lazy layers get their weights from one sample of zeros."""
    to_eval(network)
    if not any(map(_is_lazy, network.modules())):
        return network
    x: Inputs = (
        {name: torch.zeros(1, *each) for name, each in shapes.items()}
        if isinstance(shapes, dict)
        else tuple(torch.zeros(1, *each) for each in shapes)
    )
    try:
        with torch.no_grad():
            trees.call(network, x)
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UnsupportedNetwork(
            f"it has lazy layers, and does not run on a sample of zeros of shape {shapes}: {first}",
            where=type(network).__name__,
            remedy="check the network against the dataset's shape, or give its layers their sizes",
        ) from error
    return network


def narrow_types(network: nn.Module) -> tuple[str, ...]:
    """The floating types of its weights that have fewer bits than float32."""
    return tuple(sorted({str(each.dtype)[6:] for each in network.parameters() if is_narrow(each.dtype)}))


def is_narrow(dtype: torch.dtype) -> bool:
    """Is it a floating type of fewer bits than float32?"""
    return dtype.is_floating_point and dtype.itemsize < torch.float32.itemsize


def widened(value: Any) -> Any:
    """A tensor or type of few bits as float32, which holds its values exactly; all else as it is."""
    if isinstance(value, torch.dtype):
        return torch.float32 if is_narrow(value) else value
    return value.float() if isinstance(value, Tensor) and is_narrow(value.dtype) else value


def notes(network: nn.Module) -> tuple[str, ...]:
    """What a user should know of how the network is read."""
    found = []
    if types := narrow_types(network):
        found.append(f"the weights are {' and '.join(types)}: they are converted in float32")
    observing = [name for name, module in network.named_modules() if _kept(module) is False]
    if observing:
        found.append(
            f"observers and fake quantization of activations are left out ({_some(observing)}): the SNN "
            "quantizes them in its own way; weights are those that the fake quantization gives"
        )
    return tuple(found)


# What cannot be read -------------------------------------------------------------------------------


def refuse(network: nn.Module) -> None:
    """Raise for what holds no weights that could be read, or no calls that could be followed."""
    for name, module in network.named_modules():
        where = f"{name} ({type(module).__name__})" if name else type(module).__name__
        for found, what, remedy in _REFUSALS:
            if found(module):
                raise UnsupportedNetwork(what, where=where, remedy=remedy)


def _is_lazy(module: nn.Module) -> bool:
    """Are sizes of its own weights unknown before a first run?"""
    own = (*module._parameters.values(), *module._buffers.values())
    return any(is_lazy(each) for each in own if each is not None)


def _is_quantized(module: nn.Module) -> bool:
    home = type(module).__module__
    by_class = home.startswith(_QUANTIZED) and ".reference" not in home
    return by_class or any(each.is_quantized for each in _own_tensors(module))


def _is_of_one_batch(module: nn.Module) -> bool:
    """Was it exported for batches of one size?"""
    if not isinstance(module, torch.fx.GraphModule) or "_guards_fn" not in dict(module.named_children()):
        return False
    shown = [node.meta.get("val") for node in module.graph.nodes if node.op == "placeholder"]
    return any(isinstance(each, Tensor) and each.dim() and isinstance(each.shape[0], int) for each in shown)


def _own_tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from (each for each in module.parameters(recurse=False) if not is_lazy(each))
    yield from (each for each in module.buffers(recurse=False) if not is_lazy(each))


_ORIGINAL = "give the nn.Module that it was made from"
_REFUSALS = (
    (
        lambda module: isinstance(module, torch.jit.ScriptModule),
        "TorchScript does not tell its calls to torch.export",
        f"{_ORIGINAL}, before torch.jit.script or torch.jit.trace; or export that to ONNX and give the file",
    ),
    (
        _is_quantized,
        "it is quantized by torch already",
        f"{_ORIGINAL}, before torch.ao.quantization.convert() or quantize_dynamic(); ann2snn quantizes it",
    ),
    (
        _is_lazy,
        "it is lazy and has no weights yet",
        "run the network once on a sample, network(x), and train it",
    ),
    (
        lambda module: any(each.is_meta for each in _own_tensors(module)),
        "its weights are on the meta device and hold no values",
        "build the network on the CPU, or network.to_empty(device='cpu'), and load its weights",
    ),
    (
        lambda module: type(module).__name__ == "FullyShardedDataParallel",
        "its weights are spread over processes",
        "gather them (torch.distributed.checkpoint.state_dict) into the network without FSDP, and give that",
    ),
    (
        _is_of_one_batch,
        "it was exported for batches of one size",
        "export it with dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), or " + _ORIGINAL,
    ),
)


# While it is read ----------------------------------------------------------------------------------


@contextmanager
def reading(network: nn.Module) -> Iterator[None]:
    """The network in eval mode, with nothing in it that only observes; afterwards as it was in every part."""
    held = [_Held.by(module) for module in network.modules()]
    try:
        to_eval(network)
        for module in list(network.modules()):
            for name, part in list(module._modules.items()):
                if part is not None and (other := _in_place_of(part)) is not part:
                    module._modules[name] = other
        yield
    finally:
        for each in held:
            each.put_back()


def to_eval(network: nn.Module) -> nn.Module:
    """The network itself, in eval mode; an exported one is in the mode that it was exported in."""
    try:
        network.eval()
    except NotImplementedError:
        for module in network.modules():
            module.training = False
    return network


def _in_place_of(module: nn.Module) -> nn.Module:
    """What is read where this module is."""
    while (inner := _wrapped(module)) is not None:
        module = inner
    keeps = _kept(module)
    return module if keeps is None else _FakeQuantized(module) if keeps else nn.Identity()


def _wrapped(module: nn.Module) -> nn.Module | None:
    """The module that this one only runs."""
    of_torch = type(module).__module__.startswith("torch.")
    inner = getattr(module, _WRAPPERS.get(type(module).__name__, ""), None) if of_torch else None
    return inner if isinstance(inner, nn.Module) else None


def _kept(module: nn.Module) -> bool | None:
    """Of fake quantization: is it of weights, and kept? False if left out, None if it is something else."""
    names = {
        each.__name__
        for each in type(module).__mro__
        if each.__module__.startswith(("torch.ao.", "torchao."))
    }
    if names.isdisjoint(_OBSERVERS):
        return None
    return "FakeQuantizeBase" in names and getattr(module, "ch_axis", -1) >= 0


class _FakeQuantized(nn.Module):
    """Weights as a fake quantization gives them, by the scales that it has learned."""

    def __init__(self, learned: Any) -> None:
        super().__init__()
        self.scale, self.zero = learned.scale.detach().clone(), learned.zero_point.detach().clone()
        self.low, self.high = int(learned.quant_min), int(learned.quant_max)
        self.axis = int(getattr(learned, "ch_axis", -1))
        self.enabled = bool(learned.fake_quant_enabled[0])

    def forward(self, weight: Tensor) -> Tensor:
        """(clip(round(w / scale) + zero, low, high) − zero)·scale."""
        if not self.enabled:
            return weight
        axes = [1] * weight.dim()
        if self.axis >= 0:
            axes[self.axis] = -1
        scale, zero = self.scale.reshape(axes), self.zero.reshape(axes).to(weight.dtype)
        whole: Tensor = torch.clamp(torch.round(weight * (1 / scale)) + zero, self.low, self.high)
        return whole.sub(zero).mul(scale)


@dataclass(eq=False)
class _Held:
    """What a module holds: its attributes, and those of its dicts that a forward may write into."""

    module: nn.Module
    attributes: dict[str, Any]
    dicts: dict[str, dict[str, Any]]
    buffers: dict[str, Tensor]

    @classmethod
    def by(cls, module: nn.Module) -> _Held:
        """Note it; the values of buffers too, as a forward may count in them."""
        dicts = {name: dict(getattr(module, name)) for name in ("_modules", "_parameters", "_buffers")}
        buffers = {name: each.detach().clone() for name, each in module._buffers.items() if each is not None}
        return cls(module, dict(vars(module)), dicts, buffers)

    def put_back(self) -> None:
        """Make the module hold just that again."""
        now = vars(self.module)
        for name in now.keys() - self.attributes.keys():
            del now[name]
        now.update(self.attributes)
        for name, entries in self.dicts.items():
            held = now[name]
            held.clear()
            held.update(entries)
        with torch.no_grad():
            for name, values in self.buffers.items():
                self.module._buffers[name].copy_(values)  # type: ignore[union-attr]


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
