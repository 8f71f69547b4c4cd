"""One row with one tool in a process of its own: `python -m parity_runners.one TOOL ROW` prints JSON."""

from __future__ import annotations

import copy
import json
import sys
import traceback
import warnings
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from parity_runners import oracle
from parity_runners.rows import ROWS, Row

EXACT, WRONG = 0.05, 0.5


@dataclass
class Found:
    """What one tool made of one row."""

    outcome: str  # exact, works, not spiking, refused, wrong, crashed, not offered
    error: float | None = None
    said: str = ""
    lossless: float | None = None  # the error at D = T, where there is such a thing
    spiking: int | None = None  # populations of neurons
    relus: int | None = None  # and how many there could be
    is_warned: bool = False


class NotOffered(Exception):
    """The tool has no such setting or use."""


def found(row: Row, tool: Any) -> Found:
    """Convert, run, compare; an exception is an outcome too."""
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            outputs, spiking, lossless = answered(row, tool)
    except NotOffered as problem:
        return Found("not offered", said=str(problem))
    except Exception as problem:
        return Found(*kind_of(problem, tool))
    wanted, relus = oracle.wanted(row), oracle.relus_of(row)
    error = least_error(outputs, wanted)
    is_warned = any(_is_warning(each) for each in said)
    later = None if lossless is None else least_error(lossless, wanted)
    return Found(outcome(row, error, spiking, relus), error, "", later, spiking, relus, is_warned)


def answered(row: Row, tool: Any) -> tuple[Any, int, Any]:
    """The outputs, the populations of neurons, and the outputs at D = T or None."""
    network = oracle.network_of(row)
    data = oracle.given(row, row.data or tool.DATA)
    snn, x = tool.converted(network, data, row), oracle.shown(row)
    if row.after == "again":
        tool.run(snn, x, row)
    elif row.after == "after another batch size":
        tool.run(snn, tuple(each[:3] for each in x), row)
    elif row.after == "deepcopy":
        snn = copy.deepcopy(snn)
    elif row.after == "file":
        snn = tool.through_a_file(snn, row)
    elif row.after == "state dict":
        other = tool.converted(oracle.network_of(row, seed=oracle.SEED + 9), data, row)
        other.load_state_dict(snn.state_dict())
        snn = other
    outputs, spiking = tool.run(snn, x, row)
    lossless = tool.lossless(snn, x) if hasattr(tool, "lossless") else None
    return oracle.flat(outputs), spiking, None if lossless is None else oracle.flat(lossless)


def least_error(outputs: torch.Tensor, wanted: list[torch.Tensor]) -> float:
    """The length of the difference over that of what is wanted; infinite for another shape or no number."""
    if any(outputs.shape != each.shape for each in wanted) or not outputs.isfinite().all():
        return float("inf")
    return min(float((outputs - each).norm() / each.norm()) for each in wanted)


def outcome(row: Row, error: float, spiking: int, relus: int) -> str:
    """By the rule that docs/parity.md states."""
    if row.is_nonsense or error > WRONG:
        return "wrong"
    if spiking < relus:
        return "not spiking"
    return "exact" if error <= EXACT else "works"


def kind_of(problem: Exception, tool: Any) -> tuple[str, None, str]:
    """Refused where the tool, or torch.fx that it traces with, raises it in so many words; else crashed."""
    last = traceback.extract_tb(problem.__traceback__)[-1]
    home = Path(import_module(tool.PACKAGE).__file__).parent
    is_theirs = last.filename.startswith((str(home), str(Path(torch.fx.__file__).parent)))
    is_worded = (last.line or "").strip().startswith(("raise", "assert"))
    first = next((line.strip() for line in str(problem).splitlines() if line.strip()), "")
    said = first if tool.PACKAGE == "ann2snn_cli" else f"{type(problem).__name__}: {first}"
    return "refused" if is_theirs and is_worded else "crashed", None, said


def _is_warning(said: warnings.WarningMessage) -> bool:
    """Of the tool, about the result: not of torch, nor of what will be removed some day."""
    of_the_future = (DeprecationWarning, FutureWarning, PendingDeprecationWarning, ImportWarning)
    return not issubclass(said.category, of_the_future) and "/torch/" not in said.filename


def main() -> None:
    """Print the row's line."""
    torch.set_num_threads(1)
    tool = import_module(f"parity_runners.of_{sys.argv[1]}")
    print(json.dumps(asdict(found(ROWS[sys.argv[2]], tool))), flush=True)


if __name__ == "__main__":
    main()
