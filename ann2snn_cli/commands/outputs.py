"""The files of a conversion: NAME.pth, NAME.json, NAME.yaml and NAME_pack/; none of them half-way."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ann2snn_cli.config import Settings, as_dict
from ann2snn_cli.errors import BadFile, UsageError
from ann2snn_cli.stages.export import files

if TYPE_CHECKING:
    from ann2snn_cli.data import Data
    from ann2snn_cli.ir.graph import Graph
    from ann2snn_cli.pipeline import Listener

PACK_BYTES = 256_000_000  # of a pack that nobody asked for by size
STATE_FORMAT = "ann2snn/finetuning"


def named_pth(path: Path) -> Path:
    """The path itself, refused unless it ends in .pth."""
    if path.suffix != ".pth":
        raise UsageError(
            f"--save_file {str(path)!r} does not end in .pth",
            remedy=f"use --save_file {path.with_suffix('.pth')}",
        )
    return path


@dataclass(frozen=True)
class Outputs:
    """Where the results of one conversion lie."""

    pth: Path

    @staticmethod
    def of(settings: Settings, name: str) -> Outputs:
        """The files that the settings ask for; by default NAME_snn.pth in the working directory."""
        path = Path(settings.save.save_file or f"{name}_snn.pth").expanduser()
        return Outputs(named_pth(path))

    @property
    def summary(self) -> Path:
        """The report as JSON."""
        return self.pth.with_suffix(".json")

    @property
    def config(self) -> Path:
        """The resolved settings: `ann2snn convert --config` repeats the run."""
        return self.pth.with_suffix(".yaml")

    @property
    def pack(self) -> Path:
        """The vector pack."""
        return self.pth.with_name(f"{self.pth.stem}_pack")

    @property
    def state(self) -> Path:
        """Finetuning that was interrupted."""
        return self.pth.with_name(f".{self.pth.stem}.finetuning")

    def named_in(self, settings: Settings) -> Settings:
        """The settings with the file's name filled in."""
        return replace(settings, save=replace(settings.save, save_file=str(self.pth)))

    def refuse_foreign(self, overwrite: bool) -> None:
        """Before any compute is spent: refuse files that are not ours, and folders that are shut."""
        from ann2snn_cli.stages.export import pth

        for path, is_ours in (
            (self.pth, pth.is_ours),
            (self.summary, files.is_our_json),
            (self.config, files.is_our_yaml),
            (self.pack, files.is_our_folder),
        ):
            files.refuse_foreign(path, is_ours=is_ours, overwrite=overwrite)
        files.refuse_shut(self.pth.parent)

    # finetuning's state

    def listener(self, settings: Settings, weights: str, resume: bool) -> Listener:
        """Saves finetuning after each epoch, and hands a saved one back if it is to be resumed."""
        from ann2snn_cli.pipeline import Listener

        run = _fingerprint(settings, weights)
        return Listener(
            save=lambda state: self._save_state(state, run), resume=self._saved_state(run) if resume else None
        )

    def _save_state(self, state: dict[str, Any], run: str) -> None:
        import torch

        buffer = io.BytesIO()
        torch.save({"format": STATE_FORMAT, "run": run, **state}, buffer)
        files.write_file(self.state, buffer.getvalue(), is_ours=lambda path: True)

    def _saved_state(self, run: str) -> dict[str, Any]:
        from ann2snn_cli.stages.export import pth

        if not self.state.exists():
            raise BadFile(
                "there is no interrupted finetuning to resume",
                where=str(self.state),
                remedy="start without --resume, or give the --save_file of the run that was interrupted",
            )
        state = pth.read(self.state)
        if state.get("format") != STATE_FORMAT or state.get("run") != run:
            raise BadFile(
                "the interrupted finetuning had other settings or weights",
                where=str(self.state),
                remedy="repeat the settings of that run, or start anew without --resume",
            )
        return state

    # results

    def write(
        self, graph: Graph, document: dict[str, Any], settings_yaml: str, data: Data, overwrite: bool
    ) -> None:
        """Write everything, and enter the files into the document."""
        from ann2snn_cli.stages.export import pth

        provenance = {
            name: document[name]
            for name in ("network", "dataset", "weights", "settings", "accuracy", "test_samples", "notes")
        } | {"tool": _tool()}
        pth.save(graph, provenance, self.pth, overwrite=overwrite)
        with_pack = self._write_pack(graph, document, data, overwrite)
        header = (
            f"{files.SETTINGS_HEADER}: repeat this run with\n#   ann2snn convert --config {self.config}\n"
        )
        files.write_file(
            self.config, (header + settings_yaml).encode(), is_ours=files.is_our_yaml, overwrite=overwrite
        )
        document["files"] = self._listed(with_pack)
        files.write_file(
            self.summary, files.as_json(document), is_ours=files.is_our_json, overwrite=overwrite
        )
        self.state.unlink(missing_ok=True)

    def _write_pack(self, graph: Graph, document: dict[str, Any], data: Data, overwrite: bool) -> bool:
        """The vector pack, unless none is wanted or the network is not one of integers."""
        from ann2snn_cli import packing
        from ann2snn_cli.commands.snn import origin

        settings = document["settings"]
        real, refusal = settings["save"]["vectors"], packing.refusal(graph)
        if real == 0 or refusal:
            if files.is_our_folder(self.pack):  # that of an earlier SNN is none of this one's
                shutil.rmtree(self.pack)
            document["notes"] += [refusal] if real and refusal else []
            return False
        batches = data.test_batches(settings["data"]["test_batch_size"])
        samples, absent = packing.choose_samples(graph, batches, real)
        samples, extent, left_out = packing.within(graph, samples, PACK_BYTES)
        document["notes"] += [left_out] if left_out else []
        facts = origin(document, data.name)
        packing.write_pack(
            graph, samples, self.pack, absent=absent, extent=extent, origin=facts, overwrite=overwrite
        )
        return True

    def _listed(self, with_pack: bool) -> list[dict[str, Any]]:
        listed = [_file(self.pth, "the SNN"), _file(self.config, "the settings: --config repeats the run")]
        if with_pack:
            what = "the vector pack: parameters, stimuli, expected spikes and potentials"
            listed.append({"path": f"{self.pack}/", "bytes": files.size_of(self.pack), "what": what})
        return [*listed, {"path": str(self.summary), "bytes": None, "what": "this report as JSON"}]


def _file(path: Path, what: str) -> dict[str, Any]:
    return {"path": str(path), "bytes": path.stat().st_size, "what": what}


def _tool() -> str:
    from ann2snn_cli.commands import tool_version

    return f"ann2snn {tool_version()}"


def _fingerprint(settings: Settings, weights: str) -> str:
    """What finetuning depends on: an interrupted run may only go on as it began."""
    tree = as_dict(settings)
    for section in ("save", "check"):
        tree.pop(section)
    tree["run"].pop("device")
    return hashlib.sha256(json.dumps([tree, weights], sort_keys=True).encode()).hexdigest()
