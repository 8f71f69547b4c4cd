"""What kernel.c takes: the same structures and numbers as there."""

from __future__ import annotations

from ctypes import POINTER, Structure, c_int32, c_int64, c_void_p

LANES = 16  # neurons at a time
WORD = 4  # channels that are multiplied at once
STEPS = 4  # steps at a time
SUMS_OF_16_BITS = 2**15 - 1
LARGEST_INPUT = 127  # two products of it and a weight fit 16 bits
DENSE, BY_CHANNEL, CURRENT = range(3)


class Term(Structure):
    """What charges a population, as in kernel.c."""

    _fields_ = (
        *((name, c_int32) for name in ("kind", "taps", "words", "run")),
        *((name, c_int64) for name in ("image", "pixel", "step")),
        *((name, c_void_p) for name in ("values", "sources", "first", "weights", "factors")),
    )


class Population(Structure):
    """A population and where its spikes go, as in kernel.c."""

    _fields_ = (
        *((name, c_int64) for name in ("images", "pixels", "channels", "steps", "filled", "delay")),
        *((name, c_int64) for name in ("shift", "resets_to_zero", "parameters_pixel")),
        *((name, c_void_p) for name in ("threshold", "bias", "initial", "spikes", "counts", "potentials")),
        ("terms", c_int64),
        ("term", POINTER(Term)),
    )


class Pool(Structure):
    """A pool of spikes, as in kernel.c."""

    _fields_ = (
        *((name, c_int64) for name in ("images", "pixels", "channels", "filled", "image", "reach")),
        *((name, c_int32) for name in ("taps", "largest")),
        *((name, c_void_p) for name in ("values", "sources", "pooled")),
    )
