"""The kernel: neurons over all steps, their potentials in registers. The only file that imports Triton."""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"

import torch
import triton
import triton.language as tl

INTEGERS = {torch.int32: tl.int32, torch.int64: tl.int64}


@triton.jit
def fire(
    charges,  # [T or 1, neurons], numbers of any type that are integers
    thresholds,  # of neuron n: number n // inner % count
    biases,
    initials,
    spikes,  # out: [T, neurons], 0 and 1
    counts,  # out: [neurons]
    potentials,  # out, where kept: [T, neurons]
    neurons,
    inner,
    count,
    stride,  # of charges, from step to step: 0 where all steps are the same
    steps,
    delay,
    factor,  # of charges: 2^fraction_bits
    to_zero: tl.constexpr,  # a spike resets to zero
    keeps: tl.constexpr,
    accumulator: tl.constexpr,  # the type of potentials; also that of thresholds, biases and initials
    block: tl.constexpr,
):
    """SPEC 5: integrate D steps; then T times integrate what is left, compare, reset."""
    neuron = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    is_there = neuron < neurons
    parameter = neuron // inner % count
    threshold = tl.load(thresholds + parameter, mask=is_there, other=1)
    bias = tl.load(biases + parameter, mask=is_there, other=0)
    potential = tl.load(initials + parameter, mask=is_there, other=0)
    charge = charges + neuron
    spike = spikes + neuron
    kept = potentials + neuron
    fired = tl.zeros([block], dtype=tl.int32)
    for _ in range(delay):
        potential += tl.load(charge, mask=is_there, other=0).to(accumulator) * factor + bias
        charge += stride
    for step in range(steps):
        arrives = step + delay < steps
        more = tl.load(charge, mask=is_there & arrives, other=0).to(accumulator) * factor + bias
        potential += tl.where(arrives, more, 0)
        charge += stride
        fires = potential >= threshold
        if to_zero:
            potential = tl.where(fires, 0, potential)
        else:
            potential -= tl.where(fires, threshold, 0)
        fired += fires.to(tl.int32)
        tl.store(spike, fires.to(spikes.dtype.element_ty), mask=is_there)
        spike += neurons
        if keeps:
            tl.store(kept, potential.to(potentials.dtype.element_ty), mask=is_there)
            kept += neurons
    tl.store(counts + neuron, fired, mask=is_there)
