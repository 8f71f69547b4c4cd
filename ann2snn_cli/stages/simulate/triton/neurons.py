"""Populations by the kernel: tensors laid out for it, in whatever order their axes lie; and a trial of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ann2snn_cli.ir.contract import Contract, Reset
from ann2snn_cli.ir.graph import Node
from ann2snn_cli.ir.ops import IntegrateFire, Place, map_tensors

BLOCK = 1024  # neurons of one program
LARGEST = {torch.int32: 2**31 - 1, torch.int64: 2**63 - 1}


@dataclass(frozen=True, eq=False)
class Fired:
    """What a population passes on, and how often each neuron fired."""

    train: Tensor  # [T, batch, ...]
    counts: Tensor  # [batch, ...]
    potentials: Tensor | None = None


@dataclass(frozen=True)
class Types:
    """In which types a population is computed and handed on."""

    potential: torch.dtype  # int32 or int64, which hold every potential
    spikes: torch.dtype
    kept: torch.dtype | None = None  # of potentials that are asked for


def fire(op: IntegrateFire, charges: Tensor, contract: Contract, types: Types) -> Fired:
    """What `IntegrateFire.train` says, of charges [T or 1, batch, ...]."""
    steps, shape = contract.timesteps, charges.shape[2:]
    channels_last = _is_channels_last(charges)
    charges = charges.movedim(2, -1) if channels_last else charges.contiguous()
    laid = (steps, *charges.shape[1:])
    spikes = charges.new_empty(laid, dtype=types.spikes)
    counts = charges.new_empty(laid[1:], dtype=torch.int32)
    kept = None if types.kept is None else charges.new_empty(laid, dtype=types.kept)
    neurons, parameters = counts.numel(), _parameters(op, shape, channels_last, types.potential)
    if neurons:
        from ann2snn_cli.stages.simulate.triton import kernel

        with torch.cuda.device_of(charges):  # type: ignore[no-untyped-call]  # where Triton runs
            kernel.fire[(-(-neurons // BLOCK),)](
                charges, *parameters.values, spikes, counts, spikes if kept is None else kept,
                neurons, parameters.inner, parameters.values[0].numel(), neurons if len(charges) > 1 else 0,
                steps, contract.delay, 2**op.fraction_bits, contract.reset_mode is Reset.ZERO,
                kept is not None, kernel.INTEGERS[types.potential], BLOCK,
            )  # fmt: skip

    def in_order(values: Tensor, channels: int) -> Tensor:
        return values.movedim(-1, channels) if channels_last else values

    return Fired(in_order(spikes, 2), in_order(counts, 1), None if kept is None else in_order(kept, 2))


def _is_channels_last(charges: Tensor) -> bool:
    return charges.dim() > 3 and not charges.is_contiguous() and charges.movedim(2, -1).is_contiguous()


@dataclass(frozen=True, eq=False)
class _Parameters:
    values: tuple[Tensor, ...]  # threshold, bias, initial: flat, all of one size
    inner: int  # so many neurons in a row have the same


_LAID: WeakKeyDictionary[IntegrateFire, dict[Any, _Parameters]] = WeakKeyDictionary()


def _parameters(op: IntegrateFire, shape: torch.Size, channels_last: bool, dtype: torch.dtype) -> _Parameters:
    known, key = _LAID.setdefault(op, {}), (shape, channels_last, dtype)
    if key not in known:
        known[key] = _laid(op, shape, channels_last, dtype)
    return known[key]


def _laid(op: IntegrateFire, shape: torch.Size, channels_last: bool, dtype: torch.dtype) -> _Parameters:
    """One for all, one a channel, or one a neuron. What is larger than all potentials stays it."""
    together: torch.Size = torch.broadcast_shapes(op.threshold.shape, op.bias.shape, op.initial.shape)  # type: ignore[no-untyped-call]
    values = [value.expand(together) for value in (op.threshold, op.bias, op.initial)]
    inner = 1
    if prod(together) > 1:
        channels = shape[0]
        if together == (channels, *[1] * (len(shape) - 1)):
            inner = 1 if channels_last else prod(shape[1:])
        else:
            values = [value.expand(shape) for value in values]
            values = [value.movedim(0, -1) for value in values] if channels_last else values
    threshold, *others = (value.to(torch.int64).flatten() for value in values)
    threshold = threshold.clamp(max=LARGEST[dtype])
    return _Parameters(tuple(value.to(dtype).contiguous() for value in (threshold, *others)), inner)


# Does it work here? ---------------------------------------------------------------------------------


@cache
def problem(device: torch.device) -> str:
    """What is wrong with the kernel on this device; nothing if a trial gives what torch gives."""
    try:
        if all(_is_right(device, mode, dtype) for mode in Reset for dtype in LARGEST):
            return ""
    except Exception as failure:  # no compiler for its launcher, a GPU or a driver that is too old, ...
        return f"Triton cannot run its kernel on {device}: {type(failure).__name__}: {failure}"
    return f"its kernel gives wrong results on {device}"


def _is_right(device: torch.device, reset_mode: Reset, dtype: torch.dtype) -> bool:
    """More neurons than one program has, negative and large charges: does it do what the op says?"""
    contract, shape = Contract(5, reset_mode, 2), (3, BLOCK // 4)
    count = contract.timesteps * prod(shape) * 2
    charges = (torch.arange(count) * 7919 % 2001 - 900).double().reshape(contract.timesteps, 2, *shape)
    threshold, bias, initial = torch.tensor([[700, 2**40, 1], [-3, 5, 0], [350, 0, -9]])[:, :, None]
    op = IntegrateFire(threshold, bias, initial, fraction_bits=1)
    place = Place(Node("trial", op, (), shape), (), contract, keeps_potentials=True)
    wanted = op.train([charges], place)
    there = map_tensors(op, lambda tensor: tensor.to(device))
    assert isinstance(there, IntegrateFire)
    types = Types(dtype, torch.uint8, torch.float64)
    found = fire(there, charges.to(device, torch.float32), contract, types)
    assert found.potentials is not None
    assert wanted.potentials is not None
    pairs = (
        (found.train, wanted.train),
        (found.counts, wanted.train.sum(0)),
        (found.potentials, wanted.potentials),
    )
    return all(torch.equal(got.cpu().double(), right) for got, right in pairs)
