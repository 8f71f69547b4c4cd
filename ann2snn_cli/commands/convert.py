"""`ann2snn convert`: a trained network becomes a checked, integer SNN and its test vectors."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from ann2snn_cli.commands.options import json_option, overwrite_option, settings_options
from ann2snn_cli.commands.render import Progress, emit, note, percent, table
from ann2snn_cli.commands.verdicts import plain_verdict, verdict_table
from ann2snn_cli.config import Settings, as_dict, to_yaml

if TYPE_CHECKING:
    from ann2snn_cli.commands.bench import Bench
    from ann2snn_cli.ir.graph import Graph
    from ann2snn_cli.pipeline import Conversion, Evaluation, Listener
    from ann2snn_cli.types import EpochReport

SECTIONS = (
    "network", "ann_weight", "data", "fold", "calibrate", "quantize", "finetune", "threshold", "check", "run",
    "save",
)  # fmt: skip


@click.command()
@settings_options(*SECTIONS)
@click.option("--resume", is_flag=True, help="Go on with a finetuning that was interrupted.")
@overwrite_option
@json_option
def command(settings: Settings, resume: bool, overwrite: bool, as_json: bool) -> None:
    """Turn a trained network into a checked, integer SNN and its test vectors.

    NETWORK is a name from `ann2snn ls`, path.py, path.py:builder, package.module:builder or model.onnx.

    \b
    ann2snn convert example_net --weight_bitwidth 4 --timesteps 16
    ann2snn convert ./my_net.py --dataset npz:my_data.npz --ann_weight my_net.pth --finetune_epochs 0
    """
    from ann2snn_cli import pipeline
    from ann2snn_cli.commands.bench import lay_out
    from ann2snn_cli.commands.outputs import Outputs

    bench = lay_out(settings)
    outputs = Outputs.of(bench.settings, bench.spec.name)
    outputs.refuse_foreign(overwrite)
    bench = replace(bench, settings=outputs.named_in(bench.settings))
    note(f"{bench.spec.name} on {bench.data.name}, {_hardware_words(bench)}, device {bench.device}")

    batches = -(-bench.data.train_size // bench.settings.data.batch_size)
    with Progress("finetune", bench.settings.finetune.epochs * batches) as progress:
        listener = outputs.listener(bench.settings, bench.weights["sha256"], resume)
        _report_to(progress, listener)
        conversion = pipeline.convert(
            bench.network,
            bench.data,
            bench.settings,
            hardware=bench.hardware,
            device=bench.device,
            task=bench.data.task,
            listener=listener,
        )
    evaluation = _evaluated(bench, conversion.graph)
    document = report(bench, conversion, evaluation)
    outputs.write(conversion.graph, document, to_yaml(bench.settings), bench.data, overwrite)
    emit(document, as_json, lambda: _text(document))


def _report_to(progress: Progress, listener: Listener) -> None:
    def epoch(report: EpochReport) -> None:
        score = percent(report.results.get("accuracy"))
        progress.line(f"epoch {report.epoch}/{report.epochs}  loss {report.loss:.4f}  accuracy {score}")

    listener.stage, listener.epoch, listener.tick = progress.line, epoch, progress.advance


def _hardware_words(bench: Bench) -> str:
    return f"hardware {bench.hardware.name}" if bench.hardware else "no hardware limits (--hardware none)"


def _evaluated(bench: Bench, graph: Graph) -> Evaluation:
    from ann2snn_cli import pipeline

    size, workers = bench.settings.data.test_batch_size, bench.settings.data.num_workers
    with Progress("evaluate", -(-bench.data.test_size // size), "batch") as progress:
        evaluation = pipeline.evaluate(
            graph,
            bench.data.test_batches(size, workers),
            network=bench.network,
            device=bench.device,
            tick=progress.advance,
        )
    pipeline.refuse_mismatch(graph, evaluation)
    return evaluation


# The result ----------------------------------------------------------------------------------------


def report(bench: Bench, conversion: Conversion, evaluation: Evaluation) -> dict[str, Any]:
    """The JSON document of a conversion: what it scored, what the hardware says, and how to repeat it."""
    from ann2snn_cli import pipeline
    from ann2snn_cli.stages.check import violations

    graph = conversion.graph
    lasts = pipeline.latency(graph)
    return {
        "schema": "ann2snn/convert/1",
        "network": bench.spec.name,
        "dataset": bench.data.name,
        "test_samples": evaluation.samples,
        "accuracy": {
            "ann": evaluation.ann.accuracy,
            "quantized": evaluation.quantized.accuracy,
            "stepwise": evaluation.stepwise.accuracy,
            "layerwise": evaluation.layerwise.accuracy,
        },
        "layerwise_differs_from_quantized": evaluation.differing_outputs,
        "largest_output_error": evaluation.largest_error,
        "timesteps": lasts.timesteps,
        "schedule": graph.timing.schedule,
        "latency_steps": lasts.steps(graph.timing.schedule),
        "latency": lasts.report(),
        "firing_rate": evaluation.firing_rate(graph),
        "spikes_per_sample": sum(evaluation.spikes.values()) / max(1, evaluation.samples),
        "hardware": {
            "name": bench.hardware.name if bench.hardware else "none",
            "ok": not violations(conversion.verdicts),
            "violations": [plain_verdict(verdict) for verdict in violations(conversion.verdicts)],
            "verdicts": [plain_verdict(verdict) for verdict in conversion.verdicts],
        },
        "notes": [*conversion.notes, *_cautions(bench.settings)],
        "weights": bench.weights,
        "settings": as_dict(bench.settings),
    }


def _cautions(settings: Settings) -> list[str]:
    if settings.threshold.reset_mode == "zero":
        return [
            "reset to zero throws away what exceeds the threshold: layerwise a neuron then fires at most "
            "once, so only the stepwise accuracy is meaningful"
        ]
    return []


def _text(document: dict[str, Any]) -> str:
    return "\n\n".join(
        part
        for part in (_accuracy(document), _hardware(document), _layers(document), _rest(document))
        if part
    )


def _accuracy(document: dict[str, Any]) -> str:
    latency = document["latency"]
    steps = {
        "stepwise": latency["stepwise"]["latency_steps"],
        "layerwise": latency["layerwise"]["latency_steps"],
    }
    labels = {
        "ann": "ANN",
        "quantized": "quantized ANN",
        "stepwise": "SNN stepwise",
        "layerwise": "SNN layerwise",
    }
    bits = document["settings"]["quantize"]["weight_bitwidth"]
    title = (
        f"{document['network']} on {document['dataset']}: {document['test_samples']} test samples, "
        f"{bits}-bit weights, {document['timesteps']} timesteps"
    )
    rows = [[labels[name], percent(value), steps.get(name)] for name, value in document["accuracy"].items()]
    return f"{title}\n\n{table(['', 'accuracy', 'latency (steps)'], rows)}\n{_twins(document)}"


def _twins(document: dict[str, Any]) -> str:
    differing, samples = document["layerwise_differs_from_quantized"], document["test_samples"]
    if differing == 0:
        return f"\nlayerwise SNN = quantized ANN: the same output on all {samples} test samples"
    return f"\nlayerwise SNN and quantized ANN differ on {differing} of {samples} test samples"


def _hardware(document: dict[str, Any]) -> str:
    hardware = document["hardware"]
    if hardware["name"] == "none":
        return "hardware: none, so no limits were checked (--hardware v1 checks those of hardware v1.0)"
    verdict = "fits" if hardware["ok"] else "does NOT fit (allowed by --allow)"
    return f"hardware {hardware['name']}: {verdict}\n\n{verdict_table(hardware['verdicts'])}"


def _layers(document: dict[str, Any]) -> str:
    rows = [[name, f"{rate:.4f}"] for name, rate in document["firing_rate"].items()]
    total = f"{document['spikes_per_sample']:.0f} spikes a sample"
    return table(["population", "firing rate"], rows) + f"\n{total}" if rows else "no population fires"


def _rest(document: dict[str, Any]) -> str:
    notes = [f"note: {line}" for line in document["notes"]]
    files = table(
        ["file", "bytes", "what"], [[file["path"], file["bytes"], file["what"]] for file in document["files"]]
    )
    return "\n".join([*notes, "", files] if notes else [files])
