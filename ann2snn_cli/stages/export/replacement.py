"""Results that belong together take the place of earlier ones as one, and no file of a user is lost.

Everything is first written into a folder `.NAME.writing.*` beside the results. One rename to `.NAME.ready`
decides: a run that is killed before it has changed nothing, and the next run removes what it left; after it
the new results count, and this run or the next command moves them to their places (`finish`).

In a folder, the files that its manifest lists are ours, as long as their content is what it says. All others
are the user's: they stay, and what he changed of ours is only replaced when told so.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ann2snn_cli.errors import BadFile, Setting
from ann2snn_cli.stages.export.files import (
    LOCK,
    MANIFEST,
    as_json,
    is_our_folder,
    lock,
    refuse_unwritable,
    remove_stale,
    sha256_of,
    temporary_prefix,
)
from ann2snn_cli.twins.replay import manifest_hash

Tell = Callable[[str], None]

JOURNAL = "journal.json"
NEW = "new"
SHOWN = 5  # names in a note; the rest is counted


def _silent(line: str) -> None:
    pass


@dataclass(frozen=True)
class Change:
    """What becomes of the files that lay in the folders of a result."""

    removed: tuple[str, ...] = ()  # of an earlier result, and not of the new one
    kept: tuple[str, ...] = ()  # not ours

    def notes(self) -> list[str]:
        """In words, a line for each folder; none where nothing is to be said."""
        return [
            *(
                f"removed from {folder}/, of an earlier run: {what}"
                for folder, what in _counted(self.removed)
            ),
            *(f"kept in {folder}/, not written by ann2snn: {what}" for folder, what in _named(self.kept)),
        ]


def _counted(names: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """By folder: how many files in which of its folders."""
    for folder, inside in _by_folder(names).items():
        counts = Counter(f"{name.partition('/')[0]}/" if "/" in name else name for name in inside)
        words = (f"{name} ({count} files)" if count > 1 else name for name, count in counts.items())
        yield folder, ", ".join(words)


def _named(names: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for folder, inside in _by_folder(names).items():
        more = f" and {len(inside) - SHOWN} more" if len(inside) > SHOWN else ""
        yield folder, ", ".join(inside[:SHOWN]) + more


def _by_folder(names: tuple[str, ...]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        folder, _, inside = name.partition("/")
        found.setdefault(folder, []).append(inside)
    return found


@dataclass
class Staging:
    """Where new results are written before they take their places: everything below `place`."""

    target: Path  # the folder that the results come to lie in
    place: Path
    overwrite: bool = False
    absent: list[str] = field(default_factory=list)  # results of earlier runs that there shall be none of

    def results(self) -> list[str]:
        """The names in the target folder that are replaced or removed."""
        return sorted({each.name for each in self.place.iterdir()} | set(self.absent))

    def change(self) -> Change:
        """What happens to the files that lie there. Refuses where a file of the user's stands in the way."""
        removed, kept = [], []
        for name in self.results():
            new, old, ours = _files(self.place / name), _files(self.target / name), listed(self.target / name)
            if not new and not ours:
                continue  # a single file, or somebody's folder in the place of one that shall not be
            self._refuse_collisions(name, new, old - ours)
            removed += [f"{name}/{each}" for each in sorted(old & ours - new)]
            kept += [f"{name}/{each}" for each in sorted(old - ours - new)]
        return Change(tuple(removed), tuple(kept))

    def _refuse_collisions(self, name: str, new: set[str], foreign: set[str]) -> None:
        """A file that we did not write is replaced only when told so; for a folder, or a folder, never."""
        folders = {str(above) for each in new for above in PurePosixPath(each).parents}
        same = set() if self.overwrite else foreign & new
        others = foreign & folders | {each for each in new if (self.target / name / each).is_dir()}
        if same | others:
            first = min(same | others)
            replace_it = f", or replace it with {Setting('overwrite', True)}" if first in same else ""
            raise _in_the_way(self.target / name / first, replace_it)


def refuse_in_the_way(folder: Path, *, folders: Iterable[str] = (), files: Iterable[str] = ()) -> None:
    """Refuse a file where a result has a folder, or the other way round, before any work is done for it."""
    found = [folder / name for name in folders if os.path.lexists(folder / name)]
    wrong = [path for path in found if not path.is_dir()]
    wrong += [folder / name for name in files if (folder / name).is_dir()]
    if wrong:
        raise _in_the_way(wrong[0])


def _in_the_way(path: Path, remedy: str = "") -> BadFile:
    return BadFile(
        "it was not written by ann2snn, and a result has its name",
        where=str(path),
        remedy=f"move it away, or give it another name{remedy}",
    )


@contextlib.contextmanager
def replacing(target: Path, name: str, *, overwrite: bool = False) -> Iterator[Staging]:
    """A place to write the results called NAME to. They take their places together if the block ends well."""
    clear(target, name)
    target.mkdir(parents=True, exist_ok=True)
    staging, ready = Path(tempfile.mkdtemp(dir=target, prefix=temporary_prefix(name))), _ready(target, name)
    with (staging / LOCK).open("w") as held:
        lock(held)
        try:
            (staging / NEW).mkdir()
            new = Staging(target, staging / NEW, overwrite)
            yield new
            _write_journal(staging, new)
            staging.rename(ready)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        _move_all(ready)


def write_folder(
    path: Path,
    fill: Callable[[Path], None],
    *,
    overwrite: bool = False,
    tell: Tell = _silent,
) -> Path:
    """Let `fill` write into a temporary folder, then put its files in the place of earlier ones of ours.

    `tell` is told which files were removed, and which were kept because they are not ours.
    """
    clear(path.parent, path.name)
    refuse_loss_in(path, overwrite=overwrite)
    with replacing(path.parent, path.name, overwrite=overwrite) as new:
        (new.place / path.name).mkdir()
        fill(new.place / path.name)
        notes = new.change().notes()
    for line in notes:
        tell(line)
    return path


# What a run that was killed has left ---------------------------------------------------------------


def clear(target: Path, name: str, tell: Tell = _silent) -> None:
    """Before results called NAME are written: end what a run that was killed began."""
    if _ready(target, name).is_dir():
        _finish(_ready(target, name), tell)
    remove_stale(target, name)


def finish(result: Path, tell: Tell = _silent) -> None:
    """Before a result is read: move it to its place, if a run was killed while it did so."""
    for ready in sorted(result.parent.glob(".*.ready")):
        if (ready / JOURNAL).is_file() and result.name in _journal(ready)["results"]:
            _finish(ready, tell)


def _finish(ready: Path, tell: Tell) -> None:
    with contextlib.ExitStack() as held:
        if (ready / LOCK).is_file():
            lock(held.enter_context((ready / LOCK).open("r+")), wait=True)  # for a run that is at it
        if not (ready / JOURNAL).is_file():  # all was moved
            with contextlib.suppress(OSError):
                ready.rmdir()
            return
        results = _journal(ready)["results"]
        _move_all(ready)
    tell(f"finished what a run that was killed had begun to save: {', '.join(results)}")


# The order of the moves ----------------------------------------------------------------------------


def _ready(target: Path, name: str) -> Path:
    return target / f".{name}.ready"


def _write_journal(staging: Path, new: Staging) -> None:
    """What is to be done: enough for another process to do it."""
    remove, results = list(new.change().removed), new.results()
    remove += [name for name in results if _is_file_that_goes(new, name)]
    for folder in {(new.target / name).parent for name in (*remove, *_files(new.place))}:
        refuse_unwritable(folder)
    journal = {"schema": "ann2snn/replacement/1", "results": results, "remove": remove}
    (staging / JOURNAL).write_bytes(as_json(journal))


def _is_file_that_goes(new: Staging, name: str) -> bool:
    """Is there a file where a folder shall be, or no result?"""
    old = new.target / name
    is_wanted = (new.place / name).is_file()
    return not is_wanted and not old.is_dir() and os.path.lexists(old)


def _journal(ready: Path) -> dict[str, list[str]]:
    try:
        journal = json.loads((ready / JOURNAL).read_text("utf-8"))
        found = {key: [str(name) for name in journal[key]] for key in ("results", "remove")}
    except (ValueError, KeyError, TypeError):
        found = {"remove": [""]}
    if not all(map(_leads_inside, found["remove"])):
        raise BadFile(
            "a run was killed while it saved its results, and what it left is damaged",
            where=str(ready),
            remedy="remove that folder, and repeat the run",
        )
    return found


def _move_all(ready: Path) -> None:
    """Move all to its place. Whoever was killed at any point of this, it can be done again from the start.

    A folder has no manifest while its files change, so that a half is taken for none.
    """
    target, new, remove = ready.parent, ready / NEW, _journal(ready)["remove"]
    moves = sorted(_files(new), key=lambda name: (_is_manifest(name), "/" not in name, name))
    for name in moves:
        if _is_manifest(name):
            (target / name).unlink(missing_ok=True)
    for name in sorted(remove, key=lambda name: (not _is_manifest(name), name)):
        _remove(target, name)
    for name in moves:
        _move(new / name, target / name)
    shutil.rmtree(new, ignore_errors=True)
    for name in (LOCK, JOURNAL):  # the journal last: without it there is nothing to do
        (ready / name).unlink(missing_ok=True)
    ready.rmdir()


def _is_manifest(name: str) -> bool:
    return name.endswith(f"/{MANIFEST}")


def _remove(target: Path, name: str) -> None:
    """The file, and the folders that it leaves empty."""
    (target / name).unlink(missing_ok=True)
    for above in list(PurePosixPath(name).parents)[:-1]:
        try:
            (target / above).rmdir()
        except OSError:
            return


def _move(source: Path, to: Path) -> None:
    """By one rename; a link stays, and what it points to is replaced, on another disk too."""
    to = Path(os.path.realpath(to))
    to.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.replace(to)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        beside = to.with_name(f"{temporary_prefix(to.name)}copy")
        shutil.copyfile(source, beside)
        beside.replace(to)
        source.unlink()


# What lies in a folder -----------------------------------------------------------------------------


def refuse_loss_in(folder: Path, *, overwrite: bool, setting: str = "save_file") -> None:
    """Refuse to write into a folder that is not ours, or over files of ours that were changed since.

    `setting` is how the user names another place.
    """
    if overwrite or not os.path.lexists(folder):
        return
    elsewhere, told = f"choose another place with {Setting(setting)}", Setting("overwrite", True)
    if folder.is_dir() and not is_our_folder(folder):
        raise BadFile(
            "there is a folder of that name that ann2snn did not write",
            where=str(folder),
            remedy=f"{elsewhere}, or write into it with {told}: what is in it stays, but for files with the "
            "names of results",
        )
    if not folder.is_dir():
        what = "it exists and was not written by ann2snn"
        raise BadFile(what, where=str(folder), remedy=f"{elsewhere}, or replace it with {told}")
    if changed := changed_in(folder):
        more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
        raise BadFile(
            f"files in it were changed since ann2snn wrote them: {', '.join(changed[:SHOWN])}{more}",
            where=str(folder),
            remedy=f"move them away, {elsewhere}, or replace them with {told}",
        )


def changed_in(folder: Path) -> list[str]:
    """Those of the files that its manifest lists whose content is another now, and the manifest itself."""
    manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
    files = manifest.get("files")
    known = {name: entry.get("sha256") for name, entry in files.items()} if _is_table(files) else {}
    there = [name for name in sorted(known) if _lies_inside(folder, name) and (folder / name).is_file()]
    changed = [name for name in there if sha256_of(folder / name) != known[name]]
    return changed + [MANIFEST] * (manifest_hash(manifest) != manifest.get("manifest_sha256"))


def _is_table(files: object) -> bool:
    return isinstance(files, dict) and all(isinstance(entry, dict) for entry in files.values())


def as_manifest(folder: Path, document: dict[str, Any]) -> bytes:
    """A manifest: the document, the files that lie in the folder with their hashes, and its own hash."""
    files = {
        name: {"sha256": sha256_of(folder / name), "bytes": (folder / name).stat().st_size}
        for name in sorted(_files(folder))
    }
    document = {**document, "files": files}
    return as_json({**document, "manifest_sha256": manifest_hash(document)})


def listed(folder: Path) -> set[str]:
    """The files of a folder that are ours: those that its manifest lists, and the manifest."""
    if not is_our_folder(folder):
        return set()
    files = json.loads((folder / MANIFEST).read_text("utf-8")).get("files")
    names = set(files) if isinstance(files, dict) else set()
    return {MANIFEST} | {name for name in names if _lies_inside(folder, name)}


def _lies_inside(folder: Path, name: str) -> bool:
    """A manifest may name what it likes: nothing outside its folder is ours."""
    above = list(PurePosixPath(name).parents)[:-1]
    return _leads_inside(name) and not any((folder / each).is_symlink() for each in above)


def _leads_inside(name: str) -> bool:
    """Does this path lead down?"""
    return bool(name) and not name.startswith("/") and ".." not in PurePosixPath(name).parts


def _files(folder: Path) -> set[str]:
    """Everything in a folder and below that is no folder; what a link points to is not looked at."""
    found = set()
    for place, folders, files in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        found |= {(Path(place) / name).relative_to(folder).as_posix() for name in [*files, *links]}
    return found
