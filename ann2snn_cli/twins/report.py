"""What a twin written in another language prints, and how it is read.

    MISMATCH sample=NAME layer=NAME step=3 neuron=17 field=spike expected=0 got=1
    RESULT checked=N mismatch=M

A MISMATCH line names one value that differs (`got=x`: a simulator's no number; `step=0 field=result`: an
output's sum). The first of the order sample, layer, step is among those that are printed; others may be left
out. There is exactly one RESULT line, at the end. All other lines are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from ann2snn_cli.twins.replay import Damaged, Difference, Outcome, Pack, Problem, values_to_check

FIELDS = ("spike", "potential", "result")

_MISMATCH = re.compile(
    r"MISMATCH sample=(?P<sample>.*) layer=(?P<layer>.*) step=(?P<step>\d+) neuron=(?P<neuron>\d+)"
    r" field=(?P<field>\w+) expected=(?P<expected>-?\d+) got=(?P<got>-?\d+|[xXzZ]+)\s*"
)
_RESULT = re.compile(r"RESULT checked=(?P<checked>\d+) mismatch=(?P<mismatch>\d+)\s*")


def parse(text: str, pack: Pack, samples: Sequence[str], program: str) -> Outcome:
    """What a twin found on these samples, from all that it printed.

    Raises `Damaged`, with `program` as the file, if the report is not whole: no RESULT line or several, a
    MISMATCH line that cannot be read, fewer or more values checked than the samples hold, mismatches without
    one that is named.
    """
    lines = text.splitlines()
    results = [match for match in map(_RESULT.fullmatch, lines) if match]
    starts = [line for line in lines if line.startswith(("MISMATCH", "RESULT"))]
    found = [_difference(match) for match in map(_MISMATCH.fullmatch, lines) if match]
    if len(results) != 1 or len(starts) != len(found) + 1:
        raise Damaged([Problem(program, f"its report is not whole: {_last(lines)}")])
    checked, mismatches = int(results[0]["checked"]), int(results[0]["mismatch"])
    wanted = sum(values_to_check(pack, sample) for sample in samples)
    if checked != wanted:
        raise Damaged([Problem(program, f"it checked {checked} values, not {wanted}")])
    if len(found) > mismatches or bool(found) != bool(mismatches):
        raise Damaged([Problem(program, f"it counted {mismatches} mismatches and named {len(found)}")])
    return Outcome(checked, mismatches, min(found, key=_order(pack, samples, program), default=None))


def _difference(match: re.Match[str]) -> Difference:
    got = match["got"]
    return Difference(
        sample=match["sample"],
        layer=match["layer"],
        step=int(match["step"]),
        neuron=int(match["neuron"]),
        field=match["field"],
        expected=int(match["expected"]),
        got=None if got[0] in "xXzZ" else int(got),
    )


def _order(pack: Pack, samples: Sequence[str], program: str) -> Callable[[Difference], Any]:
    """The order that makes a difference the first: sample, layer, step; results come behind the layers."""
    layers, outputs = [layer["name"] for layer in pack.network.layers], list(pack.network.outputs)

    def place(difference: Difference) -> tuple[int, bool, int, int, int, int]:
        result = difference.field == "result"

        def number(name: str, names: Sequence[str]) -> int:
            if name not in names:
                raise Damaged([Problem(program, f"it names {name!r}, which the pack does not hold")])
            return list(names).index(name)

        return (
            number(difference.sample, samples),
            result,
            number(difference.layer, outputs if result else layers),
            difference.step,
            number(difference.field, FIELDS),
            difference.neuron,
        )

    return place


def _last(lines: Sequence[str]) -> str:
    """What a reader looks for first in a report that broke off."""
    said = [line for line in lines if line.strip()]
    return f"the last line is {said[-1].strip()!r}" if said else "it printed nothing"
