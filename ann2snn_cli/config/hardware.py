"""A chip as a set of limits, read from a file such as `configs/hardware/v1.yaml` (SPEC 7)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ann2snn_cli.config.fields import Checked, Rule, about, between, keys_of, setting
from ann2snn_cli.config.kinds import IntTable
from ann2snn_cli.config.sources import Given, from_file, settle
from ann2snn_cli.errors import Setting, UsageError
from ann2snn_cli.ir.contract import Pooling

REMEDY = "give a YAML file of limits such as `threshold_bits: 18`, as in `ann2snn cp v1 .`"

# What a chip may or may not compute. Neurons are always there, so they have no name here.
OPS = (
    "conv",
    "transposed_conv",
    "linear",
    "avg_pool",
    "max_pool",
    "add",
    "concat",
    "reshape",
    "scale",
    "opaque",
)

MOST_BITS = 1024  # of a register: wider ones limit nothing
BITS = Rule(
    f"a whole number from 1 to {MOST_BITS}, or none", lambda bits: bits is None or 1 <= bits <= MOST_BITS
)
LINES = Rule("a whole number, 1 or more, or none", lambda lines: lines is None or lines >= 1)
KNOWN_OPS = Rule(f"a list of {', '.join(OPS)}", lambda ops: len(ops) > 0 and set(ops) <= set(OPS))
LIMITS = Rule(
    "a table of whole numbers above 0 such as 3x3: {1: 113, 2: 56}",
    lambda table: all(min(kernel, *row, *row.values()) >= 1 for kernel, row in table.items() if row),
)


@dataclass(frozen=True)
class Hardware(Checked):
    """A named set of limits; None means that there is no such limit."""

    name: str = setting("", "what reports call it (default: the file's name)")
    description: str = setting("", "one line for `ann2snn ls`")
    in_channels: IntTable = field(
        default_factory=dict, metadata=about("published limits, [kernel][weight bits]", LIMITS)
    )
    synapse_lines: int | None = setting(
        None,
        "one-bit input lines of a core; kernel²·bits·channels must fit where no limit is published",
        LINES,
    )
    max_weight_bitwidth: int = setting(32, "the widest weights", between(1, 32))
    ops: tuple[str, ...] = setting(OPS, "what it can compute", KNOWN_OPS)
    conv_needs_relu: bool = setting(False, "a convolution must end in neurons")
    threshold_bits: int | None = setting(None, "width of a threshold register", BITS)
    bias_bits: int | None = setting(None, "width of a bias register", BITS)
    weight_code_bits: int | None = setting(None, "width of an entry of the weights' codebook", BITS)
    potential_bits: int | None = setting(
        None, "width of a neuron's accumulator, signed, against the worst case over all inputs", BITS
    )
    pooling: Pooling = setting(Pooling.SUM, "how average pooling is done")
    final_linear_on_chip: bool = setting(True, "the last linear layer is on the chip, not read out beside it")
    channel_wise_threshold: bool = setting(True, "each channel may have its own threshold")


def load_hardware(path: Path) -> Hardware:
    """The hardware that a file describes; UsageError with every mistake in it, or where it limits nothing."""
    given, mistakes = from_file(path, sections=(), remedy=REMEDY)
    values = settle([Given("name", path.stem, str(path)), *given], keys_of(Hardware), mistakes)
    hardware, words = Hardware(**values), {"name", "description"}
    if hardware == Hardware(**{name: values[name] for name in words & set(values)}):
        limits = ", ".join(name for name in keys_of(Hardware) if name not in words)
        raise UsageError(
            "it sets no limits, so every network would fit",
            where=str(path),
            remedy=f"set some of {limits}; or, to check none, give {Setting('hardware', 'none')}",
        )
    return hardware
