"""The files of a conversion: NAME.pth, NAME.json, NAME.yaml and NAME_pack/; none of them half-way."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ann2snn_cli.config import Settings, as_dict
from ann2snn_cli.errors import BadFile, Setting, Stopped, UsageError
from ann2snn_cli.stages.export import files, pth, replacement
from ann2snn_cli.stages.export.replacement import Staging
from ann2snn_cli.words import count_of
from ann2snn_cli.workflows.report import FileEntry, Progress

STATE_FORMAT = "ann2snn/finetuning"


def named_pth(path: Path) -> Path:
    """The path itself, refused unless it ends in .pth."""
    if path.suffix != ".pth":
        better = path.with_suffix(".pth") if path.stem.strip(".") else path / "NAME.pth"
        raise UsageError(
            f"the file to write, {str(path)!r}, does not end in .pth",
            where=str(Setting("save_file")),
            remedy=f"name the file: {Setting('save_file', str(better))}",
        )
    return path


def by_default(settings: Settings, name: str) -> str:
    """How paths begin that nobody chose: NAME here; in a folder of many runs DIR/NAME_b4_T16, or _D4 too."""
    if not settings.save.output_dir:
        return name
    timing, bits = settings.timing, settings.quantize.weight_bitwidth
    delay = f"_D{timing.firing_delay}" if timing.firing_delay else ""
    return str(Path(settings.save.output_dir).expanduser() / f"{name}_b{bits}_T{timing.timesteps}{delay}")


@dataclass(frozen=True)
class Outputs:
    """Where the results of one conversion lie."""

    pth: Path

    @staticmethod
    def of(settings: Settings, name: str) -> Outputs:
        """The files that the settings ask for; by default NAME_snn.pth in the working directory."""
        path = settings.save.save_file or f"{by_default(settings, name)}_snn.pth"
        return Outputs(named_pth(Path(path).expanduser()))

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
        return replace(settings, save=replace(settings.save, save_file=str(self.pth), output_dir=""))

    def clear(self, progress: Progress) -> None:
        """End what a run that was killed while it saved these had begun."""
        replacement.clear(self.pth.parent, self.pth.stem, progress.line)

    def refuse_loss(self, overwrite: bool) -> None:
        """Refuse to lose what is the user's, and folders that are shut, before any work is done."""
        for path, is_ours in (
            (self.pth, pth.is_ours),
            (self.summary, files.is_our_json),
            (self.config, files.is_our_yaml),
        ):
            files.refuse_loss(path, is_ours=is_ours, overwrite=overwrite)
        replacement.refuse_loss_in(self.pack, overwrite=overwrite)
        files.refuse_unwritable(self.pth.parent)
        if self.pack.is_dir():
            files.refuse_unwritable(self.pack)

    @contextmanager
    def replaced(self, overwrite: bool) -> Iterator[tuple[Outputs, Staging]]:
        """Where to write them to instead, so that all of them replace earlier ones as one."""
        self.refuse_loss(overwrite)
        with replacement.replacing(self.pth.parent, self.pth.stem, overwrite=overwrite) as staging:
            yield Outputs(staging.place / self.pth.name), staging

    def settings_text(self, text: str) -> bytes:
        """The settings, with the command that takes them."""
        command = f"ann2snn convert --config {self.config}"
        lines = (
            f"{files.SETTINGS_HEADER}: repeat this run with",
            f"#   {command}",
            f"# {files.SEAL}: {files.NO_SEAL}",
            text,
        )
        return files.sealed("\n".join(lines).encode("utf-8", files.UNREADABLE))

    def entries(self, written: Outputs) -> tuple[FileEntry, ...]:
        """All files, for the report; `written` is where they lie."""
        found = [
            FileEntry(str(self.pth), written.pth.stat().st_size, "the SNN"),
            FileEntry(
                str(self.config),
                written.config.stat().st_size,
                f"the settings: {Setting('config')} repeats the run",
            ),
        ]
        if written.pack.is_dir():
            what = "the vector pack: parameters, stimuli, expected spikes and potentials"
            found.append(FileEntry(f"{self.pack}/", files.size_of(written.pack), what))
        return (*found, FileEntry(str(self.summary), None, "this report as JSON"))


# Finetuning that may be interrupted ----------------------------------------------------------------


@dataclass(frozen=True)
class Interrupted:
    """The state of a finetuning on disk; it may only go on with the settings and weights it began with."""

    path: Path
    run: str

    @staticmethod
    def of(path: Path, settings: Settings, weights: str) -> Interrupted:
        """That of a run with these settings and weights (their hash)."""
        tree = as_dict(settings)
        for section in ("save", "check"):
            tree.pop(section)
        for name in ("device", "engine", "threads"):  # none changes the result
            tree["run"].pop(name)
        run = hashlib.sha256(json.dumps([tree, weights], sort_keys=True).encode()).hexdigest()
        return Interrupted(path, run)

    def save(self, state: dict[str, Any]) -> None:
        """Keep the state after an epoch."""
        buffer = io.BytesIO()
        torch.save({"format": STATE_FORMAT, "run": self.run, **state}, buffer)
        files.write_file(self.path, buffer.getvalue(), is_ours=lambda path: True, overwrite=True)

    @contextmanager
    def resumable(self) -> Iterator[None]:
        """Who is stopped in the midst of it is told how to go on, where an epoch of this run is kept."""
        try:
            yield
        except KeyboardInterrupt as stopped:
            if not self._is_kept():
                raise
            remedy = f"the epochs that are done are kept: repeat the command with {Setting('resume', True)}"
            raise Stopped.told(stopped, remedy) from None

    def refuse_loss(self, *, overwrite: bool) -> None:
        """Refuse to lose the epochs of a run that was interrupted, before any work is done."""
        if overwrite or not self.path.exists():
            return
        try:
            done = pth.read(self.path).get("epochs_done")
        except BadFile:
            done = None
        epochs = count_of(done, "epoch") if isinstance(done, int) else "epochs"
        raise UsageError(
            f"an interrupted finetuning of {epochs} lies there",
            where=str(self.path),
            remedy=f"go on with it, if it is of these settings, with {Setting('resume', True)}; or lose it "
            f"with {Setting('overwrite', True)}; or choose another place with {Setting('save_file')}",
        )

    def _is_kept(self) -> bool:
        try:
            return pth.read(self.path).get("run") == self.run
        except BadFile:
            return False

    def saved(self) -> dict[str, Any]:
        """The state to go on from."""
        if not self.path.exists():
            raise BadFile(
                "there is no interrupted finetuning to resume",
                where=str(self.path),
                remedy=f"start without {Setting('resume')}, or give the {Setting('save_file')} of the run "
                "that was interrupted",
            )
        try:
            state = pth.read(self.path)
        except BadFile as error:
            error.remedy = f"start anew with {Setting('overwrite', True)} and without {Setting('resume')}"
            raise
        if state.get("format") != STATE_FORMAT or state.get("run") != self.run:
            raise BadFile(
                "the interrupted finetuning had other settings or weights",
                where=str(self.path),
                remedy="repeat the settings of that run, or start anew with "
                f"{Setting('overwrite', True)} and without {Setting('resume')}",
            )
        return state
