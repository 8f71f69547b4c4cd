"""The narrowest floating type in which a node's integers are exact, proved from its own bound."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext

import torch

from ann2snn_cli.ir.bounds import Bound, bounds
from ann2snn_cli.ir.graph import Graph, Node
from ann2snn_cli.ir.ops.base import LinearOp

EXACT_FLOAT64 = 2**53  # integers below this are exact in float64
EXACT_FLOAT32 = 2**22  # in float32 2^24; two bits are kept for convolution algorithms that are not plain sums


def exact_dtypes(
    graph: Graph, delay: int | None = None, summed: Collection[str] = ()
) -> dict[str, torch.dtype]:
    """Needs SPIKING; gives for every node the type that carries its trains exactly, float64 of reals.

    Of the nodes in `summed` it carries the sum over all steps.
    """
    found = bounds(graph, delay)
    return {node.name: _dtype(graph, node, found[node.name], node.name in summed) for node in graph.nodes}


def _dtype(graph: Graph, node: Node, bound: Bound, summed: bool) -> torch.dtype:
    """A linear op works on one step at a time; neurons and max pooling add steps up."""
    is_real = graph.has_float_weights or bool(graph.real.intersection((node.name, *node.inputs)))
    one_step = isinstance(node.op, LinearOp) and not summed
    largest = bound.passed_on.reach if one_step else bound.largest
    return torch.float32 if not is_real and largest < EXACT_FLOAT32 else torch.float64


@contextmanager
def short_products(*, wanted: bool = True) -> Iterator[None]:
    """Convolutions on a CPU round factors to bfloat16, 8 bits, and add up their products in float32.

    So products of integers up to 256 are exact, and quick where the CPU has instructions for them (AMX).
    """
    with _convolutions_of_a_cpu("bf16") if wanted else nullcontext():
        yield


@contextmanager
def _convolutions_of_a_cpu(precision: str) -> Iterator[None]:
    switch = getattr(torch.backends.mkldnn, "conv", None)  # torch 2.8 has none
    if switch is None:
        yield
        return
    before = switch.fp32_precision
    switch.fp32_precision = precision
    try:
        yield
    finally:
        switch.fp32_precision = before


@contextmanager
def plain_arithmetic() -> Iterator[None]:
    """Convolutions and matrix products add up exact products, whatever a caller has set.

    Without cuDNN, which may choose Winograd or FFT: torch's own convolutions for GPUs are matrix products and
    sums. And these are not rounded to TF32 or bfloat16 before: they keep 10 or 7 bits of a factor. A float32
    sum of integers is then exact in any order while all parts of it are below 2^24, which `bounds` proves.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(enabled=False, allow_tf32=False), _convolutions_of_a_cpu("ieee"):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
