"""The names of two firing delays (SPEC 5), stepwise D = 0 and layerwise D = T; and what finetuning sees."""

from __future__ import annotations

from ann2snn_cli.errors import Setting, UsageError
from ann2snn_cli.ir.contract import Choice


class Schedule(Choice):
    """When a layer fires: at every step, or after it has integrated its whole input."""

    STEPWISE = "stepwise"
    LAYERWISE = "layerwise"

    def delay(self, timesteps: int) -> int:
        """The delay that this schedule is a name of."""
        return 0 if self is Schedule.STEPWISE else timesteps


class FinetuneOn(Choice):
    """What a population passes on while the network is finetuned: its count in closed form, or its spikes."""

    COUNTS = "counts"
    SPIKES = "spikes"


def chosen_delay(
    timesteps: int, schedule: Schedule | None, delay: int | None, *, is_converted: bool = True
) -> int | None:
    """The delay that is asked for by number, by name or by both; None where neither is given.

    UsageError where the two contradict each other, or the delay is longer than the T steps of a sample: a
    number that a network has for good once it is converted.
    """
    if delay is not None and not 0 <= delay <= timesteps:
        more = f"convert the network anew with more {Setting('timesteps')}"
        raise UsageError(
            f"the delay is {delay}; it must be a whole number from 0 to {timesteps}, the number of timesteps",
            remedy=f"give {Setting('delay')} such a number, or "
            + (more if is_converted else f"raise {Setting('timesteps')}"),
        )
    if schedule is None:
        return delay
    named = schedule.delay(timesteps)
    if delay is not None and delay != named:
        raise UsageError(
            f"the delay is {delay}, and the schedule {schedule}, which is a delay of {named}",
            remedy=f"leave out {Setting('delay')} or {Setting('schedule')}",
        )
    return named


def delay_name(delay: int, timesteps: int) -> str:
    """What reports call a delay: stepwise, layerwise, or delay_N for one between."""
    for schedule in Schedule:
        if delay == schedule.delay(timesteps):
            return schedule.value
    return f"delay_{delay}"
