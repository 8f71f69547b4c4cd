"""The contract: the part of the arithmetic that holds for all neurons of a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from ann2snn_cli.errors import UsageError

# A count of so many steps has 16 bits. An input has 8 and a weight at most 8: more steps tell nothing more.
MOST_TIMESTEPS = 1 << 16


class Choice(str, Enum):
    """Base of the settings that are one of a few words; text shows the word itself."""

    def __str__(self) -> str:
        return str(self.value)


class Reset(Choice):
    """What a spike does to the potential: V ← V − θ, or V ← 0."""

    SUBTRACTION = "subtraction"
    ZERO = "zero"


class Rounding(Choice):
    """Where the half spike that rounds a count enters: in the first potential, in the bias or nowhere."""

    POTENTIAL = "potential"
    BIAS = "bias"
    NONE = "none"


class Pooling(Choice):
    """How average pooling is done: by sums of integers, or by neurons of its own."""

    SUM = "sum"
    SPIKING = "spiking"


class Method(Choice):
    """Which layers with weights become integers: all, or none that only operators of real numbers join."""

    INTEGER = "integer"
    TD = "td"


class Encoding(Choice):
    """How a sample is shown over the steps: the same at each, as spikes by chance, or as a frame for each."""

    DIRECT = "direct"
    POISSON = "poisson"
    FRAMES = "frames"


@dataclass(frozen=True)
class Contract:
    """T, the reset, the firing delay D and the rounding of a network (SPEC 1 and 5).

    A population integrates its input for T steps and fires for T steps, beginning D steps after its input
    begins. D = 0 is called stepwise, D = T layerwise.
    """

    timesteps: int
    reset_mode: Reset = Reset.SUBTRACTION
    delay: int = 0
    rounding: Rounding = Rounding.POTENTIAL

    def __post_init__(self) -> None:
        _refuse_other_than_whole("timesteps", self.timesteps, 1, MOST_TIMESTEPS)
        _refuse_other_than_whole("the delay", self.delay, 0, self.timesteps)
        for name, kind in (("reset_mode", Reset), ("rounding", Rounding)):
            value = getattr(self, name)
            if not isinstance(value, kind):
                words = ", ".join(each.value for each in kind)
                raise UsageError(f"{name} is {value!r}", remedy=f"give a {kind.__name__}: {words}")

    def with_delay(self, delay: int | None) -> Contract:
        """The same contract with another delay; None keeps it."""
        return self if delay is None else replace(self, delay=delay)

    def to_plain(self) -> dict[str, int | str]:
        """Numbers and words, for files."""
        words = {"reset_mode": self.reset_mode.value, "rounding": self.rounding.value}
        return {"timesteps": self.timesteps, "delay": self.delay, **words}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Contract:
        """The contract that `to_plain` wrote; KeyError, ValueError or UsageError where it did not."""
        reset_mode, rounding = Reset(plain["reset_mode"]), Rounding(plain["rounding"])
        return cls(plain["timesteps"], reset_mode, plain["delay"], rounding)


def _refuse_other_than_whole(name: str, value: Any, low: int, high: int) -> None:
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if not (is_whole and low <= value <= high):
        raise UsageError(f"{name} is {value!r}", remedy=f"give a whole number from {low} to {high}")
