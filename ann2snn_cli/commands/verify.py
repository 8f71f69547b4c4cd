"""`ann2snn verify`: replay a vector pack with independent twins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click

from ann2snn_cli.commands.options import json_option, settings_options
from ann2snn_cli.commands.render import Progress, emit, note, percent, table
from ann2snn_cli.commands.snn import data_of, load_snn, origin
from ann2snn_cli.config import Settings
from ann2snn_cli.errors import UsageError

if TYPE_CHECKING:
    from ann2snn_cli.packs.faults import Verdict
    from ann2snn_cli.twins.replay import Pack
    from ann2snn_cli.verification import Run, Verification

TEMPORARY_BYTES = 2_000_000_000  # of a pack that is made for one check


@click.command()
@click.argument("source", metavar="PACK|SNN.pth", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--backend", "backends", multiple=True, default=("all",), metavar="NAME",
    help="numpy, onnx, onnxruntime, c, iverilog, verilator or all; repeatable.  [default: all that can run]",
)  # fmt: skip
@click.option("--sample", "names", multiple=True, metavar="NAME", help="Only this sample; repeatable.")
@click.option("--samples", type=click.IntRange(0), default=8, show_default=True,
              help="Of an SNN.pth: so many test samples, and the corner cases.")  # fmt: skip
@click.option("--schedule", type=click.Choice(["stepwise", "layerwise"]), help="Of an SNN.pth: not its own.")
@click.option("--faults", type=click.IntRange(1), metavar="N",
              help="Break the network in N ways, and report which the pack notices.")  # fmt: skip
@click.option("--max_clocks", type=click.IntRange(1), metavar="N",
              help="In Verilog, as many samples as fit.  [default: 20 seconds' worth]")  # fmt: skip
@settings_options("data", "run")
@json_option
def command(
    source: Path,
    backends: tuple[str, ...],
    names: tuple[str, ...],
    samples: int,
    schedule: str | None,
    faults: int | None,
    max_clocks: int | None,
    settings: Settings,
    as_json: bool,
) -> int:
    """Replay a vector pack with independent twins and compare every spike and potential.

    Of an SNN.pth a pack is made first, for the time of the check. The first difference of each backend is
    named by sample, layer, step and neuron; any difference exits with 4.

    \b
    ann2snn verify example_net_snn_pack
    ann2snn verify example_net_snn_pack --backend c --backend iverilog
    ann2snn verify example_net_snn_pack --faults 200
    """
    from ann2snn_cli import verification

    chosen = verification.backends_named(backends)
    with Progress("verify") as progress, _pack(source, samples, schedule, settings) as folder:
        result = verification.verify_pack(
            folder, chosen, samples=names, max_clocks=max_clocks, tell=progress.line
        )
        document: dict[str, Any] = {"schema": "ann2snn/verify/1", "pack": str(source), **_document(result)}
        if faults is not None and result.pack is not None:
            progress.line(f"faults: {faults} mutants")
            document |= _faults(result.pack, faults, settings.run.seed, names)
    emit(document, as_json, lambda: _text(document))
    return 0 if result.ok else 4


@contextmanager
def _pack(source: Path, samples: int, schedule: str | None, settings: Settings) -> Iterator[Path]:
    """The pack itself; of an SNN.pth one made for the time of the check."""
    if source.suffix != ".pth":
        if not source.is_dir():
            raise UsageError(
                "it is neither a vector pack nor an SNN.pth",
                where=str(source),
                remedy="give the folder that ann2snn convert or ann2snn export wrote",
            )
        yield source
        return
    from ann2snn_cli import packing

    graph, provenance = load_snn(source, schedule)
    data = data_of(graph, provenance, settings, source)
    chosen, absent = packing.choose_samples(graph, data.test_batches(settings.data.test_batch_size), samples)
    chosen, extent, left_out = packing.within(graph, chosen, TEMPORARY_BYTES)
    if left_out:
        note(left_out)
    with TemporaryDirectory(prefix="ann2snn_") as place:
        folder, facts = Path(place) / "pack", origin(provenance, data.name)
        yield packing.write_pack(graph, chosen, folder, absent=absent, extent=extent, origin=facts)


# The report ----------------------------------------------------------------------------------------


def _document(result: Verification) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "ok": result.ok,
        "problems": [asdict(problem) for problem in result.problems],
        "backends": [_run_document(result, run) for run in result.runs],
    }


def _run_document(result: Verification, run: Run) -> dict[str, Any]:
    """One backend; a difference is given with the neuron's coordinates and in words."""
    from dataclasses import asdict

    from ann2snn_cli.twins.replay import describe

    outcome = run.outcome
    document: dict[str, Any] = {
        "backend": run.backend,
        "version": run.version,
        "agrees": run.agrees,
        "skipped": run.skipped,
        "failed": run.failed,
        "samples": list(run.samples),
        "expected": run.expected,
        "checked": outcome.checked if outcome else 0,
        "mismatches": outcome.mismatches if outcome else 0,
        "first": None,
        "seconds": round(run.seconds, 3),
    }
    if outcome is not None and outcome.first is not None and result.pack is not None:
        document["first"] = asdict(outcome.first) | {"text": describe(result.pack, outcome.first)}
    return document


def _faults(pack: Pack, count: int, seed: int, names: tuple[str, ...]) -> dict[str, Any]:
    from dataclasses import asdict

    from ann2snn_cli.packs import faults

    verdicts = faults.judge(pack, count, seed, names)
    killed = sum(bool(verdict.killed_by) for verdict in verdicts)
    equivalent = sum(bool(verdict.equivalent) for verdict in verdicts)
    return {
        "faults": {
            "mutants": len(verdicts),
            "killed": killed,
            "equivalent": equivalent,
            "score": killed / max(1, len(verdicts) - equivalent),
            "seed": seed,
            "layers": _by_layer(verdicts),
            "survivors": [
                asdict(v.mutant) | {"text": str(v.mutant), "idle": v.idle} for v in verdicts if v.survives
            ],
            "proved_equivalent": [
                {"text": str(v.mutant), "why": v.equivalent} for v in verdicts if v.equivalent
            ],
        },
        "coverage": [asdict(row) for row in faults.coverage(pack)],
    }


def _by_layer(verdicts: list[Verdict]) -> list[dict[str, Any]]:
    rows = []
    for layer in dict.fromkeys(verdict.mutant.layer for verdict in verdicts):
        own = [verdict for verdict in verdicts if verdict.mutant.layer == layer]
        killed, equivalent = (
            sum(map(bool, which)) for which in zip(*((v.killed_by, v.equivalent) for v in own), strict=True)
        )
        rows.append({"layer": layer, "mutants": len(own), "killed": killed, "equivalent": equivalent})
    return rows


def _text(document: dict[str, Any]) -> str:
    title = f"{document['pack']}: {'verified' if document['ok'] else 'NOT verified'}"
    parts = [title, _problems(document), _backends(document), _differences(document)]
    if "faults" in document:
        parts += [_score(document["faults"]), _coverage(document["coverage"])]
    return "\n\n".join(part for part in parts if part)


def _problems(document: dict[str, Any]) -> str:
    lines = []
    for problem in document["problems"]:
        owner = " ".join(f"{key} {problem[key]}" for key in ("layer", "sample") if problem[key])
        lines.append(f"{problem['file']}{f' ({owner})' if owner else ''}: {problem['what']}")
    return "\n".join(lines)


def _backends(document: dict[str, Any]) -> str:
    rows = [
        [
            run["backend"],
            _verdict(run),
            len(run["samples"]),
            run["checked"],
            run["mismatches"],
            run["version"],
        ]
        for run in document["backends"]
    ]
    return table(["backend", "verdict", "samples", "checked", "mismatches", "version"], rows) if rows else ""


def _verdict(run: dict[str, Any]) -> str:
    if run["skipped"]:
        return "skipped"
    return "agrees" if run["agrees"] else "FAILED" if run["failed"] else "DIFFERS"


def _differences(document: dict[str, Any]) -> str:
    """Why backends did not run, and the first difference of each; those that agree on it share a line."""
    lines = [f"{run['backend']}: {run['skipped'] or run['failed']}" for run in document["backends"]]
    said = [line for line in lines if not line.endswith(": ")]
    found: dict[str, list[str]] = {}
    for run in document["backends"]:
        if run["first"]:
            found.setdefault(run["first"]["text"], []).append(run["backend"])
    return "\n".join(
        [*said, *(f"first difference ({', '.join(names)}): {text}" for text, names in found.items())]
    )


def _score(faults: dict[str, Any]) -> str:
    title = (
        f"faults: the pack kills {faults['killed']} of {faults['mutants'] - faults['equivalent']} mutants "
        f"({percent(faults['score'])}); {faults['equivalent']} more are proved equivalent"
    )
    rows = [[row[name] for name in ("layer", "mutants", "killed", "equivalent")] for row in faults["layers"]]
    idle = " (what it reads is 0 in every sample)"
    lines = [f"survivor: {each['text']}{idle * each['idle']}" for each in faults["survivors"]]
    return "\n".join([title, "", table(["layer", "mutants", "killed", "equivalent"], rows), *lines])


def _coverage(rows: list[dict[str, Any]]) -> str:
    headers = (
        "population",
        "neurons",
        "never fire",
        "always fire",
        "never near the threshold",
        "silent channels",
    )
    names = ("never_fire", "always_fire", "never_near")
    cells = [
        [
            row["layer"],
            row["neurons"],
            *(len(row[name]) for name in names),
            " ".join(map(str, row["silent_channels"])),
        ]
        for row in rows
    ]
    return table(headers, cells)
