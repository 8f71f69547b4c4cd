"""Reports: frozen values that become one JSON document, with settings spelled for its reader."""

import json
from dataclasses import FrozenInstanceError, dataclass
from pathlib import Path

import pytest

from ann2snn_cli.commands.flags import as_flag
from ann2snn_cli.errors import Setting
from ann2snn_cli.ir.contract import Reset
from ann2snn_cli.types import EpochReport, Headline
from ann2snn_cli.workflows.report import Report, epoch_line, plain


@dataclass(frozen=True)
class Small(Report):
    """A report with one of everything."""

    SCHEMA = "ann2snn/small/1"

    text: str

    def facts(self):
        """The content."""
        return {
            "text": self.text,
            "path": Path("a/b"),
            "mode": Reset.ZERO,
            "nan": float("nan"),
            "deep": [{"rows": (1, float("inf"), None, self.text)}],
        }


def test_a_report_is_one_document_that_names_its_schema():
    """Enums are words, paths texts, and what JSON cannot say is null, at any depth."""
    document = Small(f"lower {Setting('delay', 2)}").to_json()
    assert document == {
        "schema": "ann2snn/small/1",
        "text": "lower delay=2",
        "path": "a/b",
        "mode": "zero",
        "nan": None,
        "deep": [{"rows": [1, None, None, "lower delay=2"]}],
    }
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert type(document["mode"]) is str


def test_settings_are_spelled_for_the_reader():
    """As arguments unless flags are asked for."""
    assert Small(f"lower {Setting('delay', 2)}").to_json(as_flag)["text"] == "lower --delay 2"
    assert plain({"a": (Setting("mode").__str__(),)}, as_flag) == {"a": ["--mode"]}


def test_a_report_does_not_change():
    """What was reported stays as it was."""
    with pytest.raises(FrozenInstanceError):
        Small("a").text = "b"


def test_an_epoch_is_one_line_with_the_numbers_of_its_task():
    """Accuracy as percent, other numbers as they are, a dash for none; the loss once."""
    report = EpochReport(2, 5, 0.1, 8, 0.25, {"accuracy": 0.964, "loss": 0.2, "miou": 0.5, "psnr": None})
    assert (
        epoch_line(report, Headline("accuracy"))
        == "epoch 2/5  loss 0.2500  accuracy 96.40 %  miou 0.5  psnr -"
    )
