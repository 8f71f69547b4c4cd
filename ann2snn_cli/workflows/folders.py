"""A folder of results: pictures, tables and a manifest, which replace those of an earlier run as one."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ann2snn_cli.config.settings import refuse_two_places
from ann2snn_cli.errors import Setting
from ann2snn_cli.stages.export import files, replacement
from ann2snn_cli.workflows.files import by_default
from ann2snn_cli.workflows.prepare import Named
from ann2snn_cli.workflows.report import Progress


@dataclass(frozen=True)
class ResultFolder:
    """Where the results of one use case go."""

    path: Path
    overwrite: bool = False

    @staticmethod
    def of(prepared: Named, ending: str, save_dir: Path | None, overwrite: bool) -> ResultFolder:
        """The folder that is named, else NETWORK_ENDING; both it and a folder for it are refused."""
        place = prepared.settings.save.output_dir
        refuse_two_places(Setting("save_dir", save_dir), Setting("output_dir", place))
        default = Path(f"{by_default(prepared.settings, prepared.name)}_{ending}")
        return ResultFolder(save_dir or default, overwrite)

    def refuse_loss(self, progress: Progress) -> None:
        """Before any work: end what a run that was killed began, refuse what is the user's or shut."""
        replacement.clear(self.path.parent, self.path.name, progress.line)
        replacement.refuse_loss_in(self.path, overwrite=self.overwrite, setting="save_dir")
        files.refuse_unwritable(self.path if self.path.is_dir() else self.path.parent, "save_dir")

    def write(
        self, contents: Mapping[str, bytes], manifest: Mapping[str, Any], progress: Progress
    ) -> tuple[str, ...]:
        """Write all of them, or nothing; what is said of files that lay there."""
        notes: list[str] = []

        def fill(place: Path) -> None:
            for name, content in contents.items():
                (place / name).write_bytes(content)
            (place / files.MANIFEST).write_bytes(replacement.as_manifest(place, dict(manifest)))

        replacement.write_folder(self.path, fill, overwrite=self.overwrite, tell=notes.append)
        for line in notes:
            progress.line(line)
        return tuple(notes)


def as_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> bytes:
    """A table with the names of its columns, by default those of its first row; what is None is empty."""
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, columns or list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode()
