"""The pictures of an analysis. The only home of matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from textwrap import wrap

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from ann2snn_cli.stages.analyse.errors import LayerError
from ann2snn_cli.types import Headline

INK, QUIET = "#222222", "#8a8a8a"
SNN, LAYERWISE, QUANTIZED = "#0b6bcb", "#c2571a", "#3f8f5b"
# Told apart by the colour-blind (Okabe and Ito), and without colours by their marks.
MANY = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5c00", "#000000")
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")


def score_against_timesteps(
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


def score_against_steps(
    title: str,
    headline: Headline,
    curves: Mapping[str, Sequence[float]],
    quantized: Mapping[str, float],
    ann: float,
) -> bytes:
    """A score after every step: a curve a mode, its quantized network as a dotted line, the ANN dashed."""
    figure, axes = _figure(title, width=8.4)
    scale = 100 if headline.is_share else 1
    count = max(map(len, curves.values()))
    for number, (name, values) in enumerate(curves.items()):
        color, mark = MANY[number % len(MANY)], MARKS[number % len(MARKS)]
        axes.axhline(scale * quantized[name], color=color, linestyle=":", linewidth=1)
        axes.plot(
            range(1, count + 1), [scale * value for value in values], color=color, marker=mark, markersize=5,
            markevery=max(1, count // 16), linewidth=1.5, label=f"{name}  {headline.shown(values[-1])}",
        )  # fmt: skip
    axes.axhline(scale * ann, color=INK, linestyle="--", linewidth=1, label=f"ANN  {headline.shown(ann)}")
    axes.set_xlabel("time step")
    axes.set_ylabel(f"{headline.heading} on the test set{' (%)' if headline.is_share else ''}")
    axes.set_xlim(0, count + 0.5)
    axes.set_ylim(0, 102 if headline.is_share else None)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    dotted = Line2D([], [], color=QUIET, linestyle=":", label="quantized ANN of a mode")
    _legend_beside(axes, f"mode, {headline.name} after {count}", [dotted])
    return _png(figure)


def score_against_latency(
    title: str,
    headline: Headline,
    curves: Mapping[int, Sequence[tuple[int, float, int]]],
    quantized: Mapping[int, float],
    ann: float,
) -> bytes:
    """A curve a number of steps T: (latency, score, delay); its quantized network dotted, the ANN dashed."""
    figure, axes = _figure(title, width=8.4)
    scale = 100 if headline.is_share else 1
    for number, (steps, points) in enumerate(curves.items()):
        color, mark = MANY[number % len(MANY)], MARKS[number % len(MARKS)]
        in_order = sorted(points)
        scores = [scale * score for _, score, _ in in_order]
        axes.axhline(scale * quantized[steps], color=color, linestyle=":", linewidth=1)
        axes.plot([each[0] for each in in_order], scores, color=color, marker=mark, label=f"T = {steps}")
        for waited, score, delay in in_order:
            axes.annotate(
                f"D={delay}", (waited, scale * score), xytext=(0, 6), textcoords="offset points",
                fontsize=7, color=color, ha="center",
            )  # fmt: skip
    axes.axhline(scale * ann, color=INK, linestyle="--", linewidth=1, label=f"ANN  {headline.shown(ann)}")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_xlabel("latency: steps until the answer is there")
    axes.set_ylabel(f"{headline.heading} on the test set{' (%)' if headline.is_share else ''}")
    dotted = Line2D([], [], color=QUIET, linestyle=":", label="quantized ANN of a T")
    _legend_beside(axes, "steps", [dotted])
    return _png(figure)


def _legend_beside(axes: Axes, title: str, more: Sequence[Line2D] = ()) -> None:
    """To the right of the axes, where it covers nothing."""
    handles = [*axes.get_legend_handles_labels()[0], *more]
    axes.legend(handles=handles, title=title, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))


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


def rate_against_input(
    title: str, inputs: Sequence[int], rates: Sequence[float], relu: Sequence[float], threshold: int
) -> bytes:
    """The firing rate of a neuron for every constant input, and the rectifier that it stands for."""
    figure, axes = _figure(title)
    label = "clipped ReLU of input / threshold"
    axes.plot(inputs, relu, color=LAYERWISE, linestyle="--", linewidth=1.5, label=label)
    mark = "." if len(inputs) <= 100 else ""
    axes.step(inputs, rates, where="mid", color=SNN, linewidth=1.5, marker=mark, label="firing rate")
    axes.axvline(threshold, color=QUIET, linestyle=":", linewidth=1, label=f"threshold {threshold}")
    axes.set_xlabel("input at every step (whole numbers)")
    axes.set_ylabel("spikes a step")
    axes.set_ylim(-0.02, 1.05)
    axes.legend(frameon=False, loc="upper left")
    return _png(figure)


def spikes_and_potentials(
    title: str, traces: Mapping[int, tuple[Sequence[int], Sequence[int]]], threshold: int, delay: int
) -> bytes:
    """Above, when a neuron fires for each input; below, its potential after each step and its reset."""
    figure = _sheet(7.6, 6.0)
    above, below = (_dressed(axes) for axes in figure.subplots(2, sharex=True, height_ratios=(2, 3)))
    _entitle(above, title, 7.6)
    count = len(next(iter(traces.values()))[0])
    width = min(2.0, 250 / count)
    for number, (value, (spikes, potentials)) in enumerate(traces.items()):
        color, mark = MANY[number % len(MANY)], MARKS[number % len(MARKS)]
        times = range(delay + 1, delay + 1 + count)
        fired = [time for time, spike in zip(times, spikes, strict=True) if spike]
        above.eventplot([fired], lineoffsets=number, linelengths=0.7, linewidths=width, colors=color)
        mark = mark if count <= 64 else ""
        below.plot(times, potentials, color=color, marker=mark, markersize=4, linewidth=1.2, label=str(value))
    above.set_yticks(range(len(traces)), [str(value) for value in traces])
    above.set_ylim(-0.6, len(traces) - 0.4)
    above.set_ylabel("spikes, by input")
    below.axhline(threshold, color=INK, linestyle="--", linewidth=1, label="threshold")
    below.set_ylabel("potential after the reset")
    below.set_xlabel(_time_label(delay, count))
    below.set_xlim(0.5, delay + count + 0.5)
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend_beside(below, "input")
    return _png(figure)


def _time_label(delay: int, count: int) -> str:
    when = f" (input in steps 1 to {count}, firing in steps {delay + 1} to {delay + count})"
    return f"time step{when if delay else ''}"


def _figure(title: str, width: float = 7.0) -> tuple[Figure, Axes]:
    figure = _sheet(width, 4.4)
    axes = _dressed(figure.add_subplot())
    _entitle(axes, title, width)
    return figure, axes


def _sheet(width: float, height: float) -> Figure:
    mpl.rcParams["font.size"] = 10
    return Figure(figsize=(width, height), layout="constrained")


def _dressed(axes: Axes) -> Axes:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=QUIET, alpha=0.25)
    return axes


def _entitle(axes: Axes, title: str, width: float) -> None:
    """A title of as many lines as it takes: the name of a network may be long."""
    lines = [part for line in title.splitlines() for part in wrap(line, int(10 * width))]
    axes.set_title("\n".join(lines), loc="left", color=INK)


def _png(figure: Figure) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()
