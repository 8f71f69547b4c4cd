"""Names on the command line: completed by a shell, and refused where nobody knows them, without torch.

Importing torch takes seconds. A mistyped name is found before that; what lies behind a name is read later.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import click
from click.shell_completion import CompletionItem

from ann2snn_cli.config import AUTO_WEIGHT, MODES_TO_COMPARE, NO_WEIGHT, Key, Settings

WORDS_FOR_NO_FILE = ("auto", "none")  # of hardware and weights


def refuse_unknown(settings: Settings, used: Collection[str]) -> None:
    """Raise for the first of the names that a command uses, and nobody knows."""
    from ann2snn_cli import catalog, data, downloads

    network, weight, hardware = settings.network, settings.ann_weight, settings.check.hardware
    if "network" in used and not network.lower().endswith(".pth"):  # an SNN is read where it is used
        catalog.network(network)
    if "data.dataset" in used and settings.data.dataset:
        data.refuse_unknown(settings.data.dataset)
    if "check.hardware" in used and hardware not in WORDS_FOR_NO_FILE:
        catalog.hardware_file(hardware)
    is_named = weight not in (AUTO_WEIGHT, NO_WEIGHT) and not downloads.is_url(weight)
    if "ann_weight" in used and is_named and not network.lower().endswith(".onnx"):  # it has its own
        catalog.checkpoint_file(weight)


def completion(key: Key) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """What a shell offers for a setting: names and words that begin so; then files, if it may be a path."""

    def offered(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
        words = KNOWN[key.dotted]() if key.dotted in KNOWN else key.choices or ()
        found = [CompletionItem(word) for word in words if word.startswith(begun)]
        return found or ([CompletionItem(begun, type="file")] if key.dotted in PATHS else [])

    return offered


def _networks() -> Iterable[str]:
    from ann2snn_cli import catalog

    return [each.name for each in catalog.list_networks()]


def _datasets() -> Iterable[str]:
    from ann2snn_cli import data

    return [*data.DATASETS, *(f"{source}:" for source in data.SOURCES)]


def _hardware() -> Iterable[str]:
    from ann2snn_cli import catalog

    return [*WORDS_FOR_NO_FILE, *(each.name for each in catalog.list_hardware())]


def _checkpoints() -> Iterable[str]:
    from ann2snn_cli import catalog

    return [*WORDS_FOR_NO_FILE, *(each.name for each in catalog.list_checkpoints())]


KNOWN: dict[str, Callable[[], Iterable[str]]] = {
    "network": _networks,
    "data.dataset": _datasets,
    "check.hardware": _hardware,
    "ann_weight": _checkpoints,
    "calibrate.mode": lambda: MODES_TO_COMPARE,
}
PATHS = (
    "network",
    "data.dataset",
    "data.data_dir",
    "check.hardware",
    "ann_weight",
    "rules",
    "save.save_file",
)
