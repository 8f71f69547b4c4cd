"""`ann2snn export`: a converted network for others, in their formats."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ann2snn_cli.commands.options import json_option, overwrite_option, settings_options
from ann2snn_cli.commands.render import Progress, emit, percent, table
from ann2snn_cli.commands.snn import data_of, load_snn, origin
from ann2snn_cli.config import Settings
from ann2snn_cli.errors import UsageError

if TYPE_CHECKING:
    from ann2snn_cli.ir.graph import Graph

FORMATS = {
    "pack": "a vector pack: parameters, stimuli, expected spikes and potentials",
    "c": "a vector pack with a C99 program that replays it",
    "verilog": "a vector pack with Verilog modules and a bench that replay it",
    "onnx": "ONNX: one integer graph over time, and a float graph of one step where that is exact",
    "nir": "NIR, and a table of what NIR cannot say",
}
PACKED = ("pack", "c", "verilog")
NIR_SAMPLES = 8  # replayed in a reader


@click.command(epilog="\b\nFormats:\n" + "\n".join(f"  {name:8} {what}" for name, what in FORMATS.items()))
@click.argument("snn", metavar="SNN.pth", type=click.Path(path_type=Path))
@click.option("--format", "formats", multiple=True, default=("pack",), metavar="NAME",
              help=f"{', '.join(FORMATS)}; repeatable.  [default: pack]")  # fmt: skip
@click.option("--schedule", type=click.Choice(["stepwise", "layerwise"]), help="Default: the SNN's own.")
@click.option(
    "--samples", type=click.IntRange(0), default=10, show_default=True, help="Test samples in a pack."
)
@click.option("--corners/--no_corners", default=True, help="Corner cases in a pack.  [default: on]")
@click.option("--layers", multiple=True, metavar="NAME", help="Record only this layer; repeatable.")
@click.option("--steps", type=click.IntRange(1), metavar="N", help="Record only the first N steps.")
@click.option("--potentials/--no_potentials", default=True, help="Potentials too.  [default: on]")
@click.option(
    "--flavor", default="plain", metavar="NAME", help="Of NIR, for a reader that needs another form."
)
@click.option(
    "--verify", is_flag=True, help="Replay the NIR file in an installed reader, and report agreement."
)
@click.option("--save_dir", type=click.Path(path_type=Path), default=Path(), help="Default: here.")
@settings_options("data")
@overwrite_option
@json_option
def command(snn: Path, formats: tuple[str, ...], schedule: str | None, as_json: bool, **options: Any) -> None:
    """Write a converted network for others: vector pack, ONNX, NIR, C, Verilog.

    \b
    ann2snn export example_net_snn.pth --format pack
    ann2snn export example_net_snn.pth --format c --format verilog --format onnx
    """
    from ann2snn_cli.stages.export.files import refuse_shut

    chosen = _chosen(formats)
    refuse_shut(options["save_dir"], "--save_dir")
    graph, provenance = load_snn(snn, schedule)
    with Progress("export") as progress:
        job = Job(snn, graph, provenance, chosen, options, progress)
        files = [entry for make in _makers(chosen) for entry in make(job)]
    document: dict[str, Any] = {
        "schema": "ann2snn/export/1",
        "snn": str(snn),
        "delay": graph.timing.delay,
        "timesteps": graph.timing.timesteps,
        "files": files,
        "notes": job.notes,
        **job.facts,
    }
    emit(document, as_json, lambda: _text(document))


def _chosen(formats: tuple[str, ...]) -> list[str]:
    from ann2snn_cli.lookup import chosen

    names = chosen("format", formats, FORMATS)
    if not names:
        raise UsageError("no format is named", remedy=f"name one: {', '.join(FORMATS)}")
    return names


@dataclass
class Job:
    """What is exported, how, and what there is to say about it."""

    snn: Path
    graph: Graph
    provenance: dict[str, Any]
    formats: list[str]
    options: dict[str, Any]
    progress: Progress

    def __post_init__(self) -> None:
        self.notes: list[str] = []
        self.facts: dict[str, Any] = {}

    def path(self, ending: str) -> Path:
        """Where a result lies: NAME is that of the SNN."""
        place: Path = self.options["save_dir"]
        return place / f"{self.snn.stem}{ending}"

    def entry(self, path: Path, what: str) -> dict[str, Any]:
        """A file for the report."""
        from ann2snn_cli.stages.export.files import size_of

        return {"path": f"{path}/" if path.is_dir() else str(path), "bytes": size_of(path), "what": what}


def _makers(chosen: list[str]) -> Iterator[Callable[[Job], list[dict[str, Any]]]]:
    if set(chosen) & set(PACKED):
        yield _pack
    if "onnx" in chosen:
        yield _onnx
    if "nir" in chosen:
        yield _nir


def _pack(job: Job) -> list[dict[str, Any]]:
    from ann2snn_cli import packing
    from ann2snn_cli.stages.export import files
    from ann2snn_cli.stages.export.pack import Extent

    settings: Settings = job.options["settings"]
    folder, overwrite = job.path("_pack"), job.options["overwrite"]
    files.refuse_foreign(folder, is_ours=files.is_our_folder, overwrite=overwrite, flag="--save_dir")
    data = data_of(job.graph, job.provenance, settings, job.snn)
    samples, absent = packing.choose_samples(
        job.graph,
        data.test_batches(settings.data.test_batch_size),
        job.options["samples"],
        corners=job.options["corners"],
    )
    extent = Extent(job.options["layers"], job.options["steps"], job.options["potentials"])
    size = len(samples) * packing.sample_bytes(job.graph, extent)
    job.progress.line(f"record {len(samples)} samples, about {size / 1e6:,.0f} MB")
    packing.write_pack(
        job.graph,
        samples,
        folder,
        absent=absent,
        extent=extent,
        origin=origin(job.provenance, data.name),
        languages=[name for name in packing.LANGUAGES if name in job.formats],
        overwrite=overwrite,
    )
    job.notes += [f"no sample {each.name}: {each.reason}" for each in absent]
    return [job.entry(folder, f"the vector pack, {len(samples)} samples")]


def _onnx(job: Job) -> list[dict[str, Any]]:
    from ann2snn_cli.stages.export import onnx

    path = job.path(".onnx")
    potentials, overwrite = job.options["potentials"], job.options["overwrite"]
    refused = onnx.write(job.graph, path, potentials=potentials, overwrite=overwrite)
    entries = [job.entry(path, "the network in integers, all steps (ONNX, opset 18)")]
    if refused:
        job.notes.append(f"no ONNX graph of one step in floats: {refused}")
        return entries
    return [*entries, job.entry(onnx.step_file(path), "one step of it in floats, proved exact")]


def _nir(job: Job) -> list[dict[str, Any]]:
    from dataclasses import asdict

    from ann2snn_cli.stages.export import nir
    from ann2snn_cli.stages.export.nir.writing import loss_file

    path, flavor = job.path(".nir"), job.options["flavor"]
    losses = nir.write(job.graph, path, flavor=flavor, overwrite=job.options["overwrite"])
    job.facts["losses"] = [asdict(loss) for loss in losses]
    if job.options["verify"]:
        job.facts["agreement"] = _agreement(job, path)
    what = f"NIR, flavor {flavor}: {nir.FLAVORS[flavor]}"
    return [job.entry(path, what), job.entry(loss_file(path), "what NIR does not say of it")]


def _agreement(job: Job, path: Path) -> list[dict[str, Any]]:
    """How the spikes of every installed reader agree with ours, population by population."""
    from ann2snn_cli.errors import Ann2SnnError
    from ann2snn_cli.stages.export import nir
    from ann2snn_cli.stages.simulate import run

    settings: Settings = job.options["settings"]
    x, _ = next(iter(data_of(job.graph, job.provenance, settings, job.snn).test_batches(NIR_SAMPLES)))
    installed = {name: version for name, version in nir.readers().items() if version is not None}
    if not installed:
        job.notes.append(
            f"no reader of NIR is installed, so nothing was replayed (known: {', '.join(nir.readers())})"
        )
    found = []
    for reader, version in installed.items():
        try:
            rows = nir.replay(path, job.graph, x, run, reader=reader)
        except Ann2SnnError as error:
            job.notes.append(f"{reader} {version} did not replay it: {error.what}")
            continue
        for row in rows:
            facts = {"layer": row.layer, "spikes": row.spikes, "replayed": row.replayed, "share": row.share}
            found.append({"reader": f"{reader} {version}", **facts})
    return found


# The report ----------------------------------------------------------------------------------------


def _text(document: dict[str, Any]) -> str:
    title = f"{document['snn']}: {document['timesteps']} timesteps, delay {document['delay']}"
    rows = [[file["path"], file["bytes"], file["what"]] for file in document["files"]]
    parts = [title, table(["file", "bytes", "what"], rows)]
    if document.get("losses"):
        parts.append(_losses(document["losses"]))
    if document.get("agreement"):
        parts.append(_agreements(document["agreement"]))
    parts += ["\n".join(f"note: {line}" for line in document["notes"])]
    return "\n\n".join(part for part in parts if part)


def _losses(losses: list[dict[str, Any]]) -> str:
    """A row a loss; layers that lose the same share it."""
    layers: dict[tuple[str, str], list[str]] = {}
    for loss in losses:
        layers.setdefault((loss["effect"], loss["remedy"]), []).append(loss["layer"] or "network")
    whats = {(loss["effect"], loss["remedy"]): loss["what"].split(", up to ")[0] for loss in losses}
    rows = [[", ".join(names), whats[key], *key] for key, names in layers.items()]
    return "what NIR does not say:\n\n" + table(["layer", "lost", "effect", "remedy"], rows)


def _agreements(rows: list[dict[str, Any]]) -> str:
    cells = [
        [row["reader"], row["layer"], row["spikes"], row["replayed"], percent(row["share"])] for row in rows
    ]
    return table(["reader", "population", "our spikes", "its spikes", "agreement"], cells)
