"""The pictures of an analysis. The only home of matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ann2snn_cli.stages.analyse.errors import LayerError
from ann2snn_cli.types import Headline

INK, QUIET = "#222222", "#8a8a8a"
SNN, LAYERWISE, QUANTIZED = "#0b6bcb", "#c2571a", "#3f8f5b"


def score_against_time(
    title: str,
    headline: Headline,
    curves: Mapping[str, Sequence[float]],
    levels: Mapping[str, float],
    timesteps: Sequence[int],
) -> bytes:
    """A score over timesteps: a curve a schedule, a dashed line a reference."""
    figure, axes = _figure(title)
    scale = 100 if headline.is_share else 1
    colors = [SNN, LAYERWISE, QUANTIZED]
    for (name, values), color in zip(curves.items(), colors, strict=False):
        axes.plot(
            timesteps, [scale * value for value in values], color=color, marker="o", markersize=4, label=name
        )
    for (name, level), style in zip(levels.items(), ("--", ":"), strict=False):
        axes.axhline(
            scale * level, color=INK, linestyle=style, linewidth=1, label=f"{name} {headline.shown(level)}"
        )
    axes.set_xlabel("timesteps")
    axes.set_ylabel(f"{headline.heading} on the test set{' (%)' if headline.is_share else ''}")
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(timesteps), [str(step) for step in timesteps])
    axes.legend(frameon=False, loc="lower right" if headline.higher_is_better else "upper right")
    return _png(figure)


def error_by_layer(title: str, errors: Sequence[LayerError]) -> bytes:
    """Two bars a layer: the error of quantization and that of timing, relative to the float activation."""
    figure, axes = _figure(title, width=max(7.0, 0.45 * len(errors) + 3))
    places = range(len(errors))
    axes.bar(
        [p - 0.2 for p in places],
        [100 * e.quantization for e in errors],
        0.4,
        color=QUANTIZED,
        label="quantization: |quantized - float|",
    )
    axes.bar(
        [p + 0.2 for p in places],
        [100 * e.timing for e in errors],
        0.4,
        color=SNN,
        label="spike timing: |SNN - quantized|",
    )
    axes.set_xticks(
        list(places),
        [e.layer for e in errors],
        rotation=45 if len(errors) > 6 else 0,
        ha="right" if len(errors) > 6 else "center",
    )
    axes.set_ylabel("mean error (% of the mean float activation)")
    axes.legend(frameon=False)
    return _png(figure)


def _figure(title: str, width: float = 7.0) -> tuple[Figure, Axes]:
    mpl.rcParams["font.size"] = 10
    figure = Figure(figsize=(width, 4.4), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=QUIET, alpha=0.25)
    return figure, axes


def _png(figure: Figure) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()
