"""How results reach the disk: whole or not at all, and never over something that is not ours."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ann2snn_cli.errors import BadFile, Setting

MANIFEST = "manifest.json"
OURS = "ann2snn/"  # every JSON document of ours names a schema that starts so


def write_file(
    path: Path, content: bytes, *, is_ours: Callable[[Path], bool], overwrite: bool = False
) -> Path:
    """Write a file under a temporary name, then rename it. An earlier result of ours is replaced."""
    refuse_foreign(path, is_ours=is_ours, overwrite=overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        _open_permissions(Path(temporary), 0o666)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def write_folder(path: Path, fill: Callable[[Path], None], *, overwrite: bool = False) -> Path:
    """Let `fill` write into a temporary folder, then put that in the place of an earlier one of ours."""
    refuse_foreign(path, is_ours=is_our_folder, overwrite=overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        fill(temporary)
        _open_permissions(temporary, 0o777)
        _put_in_place(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return path


def _put_in_place(new: Path, path: Path) -> None:
    """Two renames: a reader sees the old folder or the new one, for a moment none, never a half."""
    if not path.exists():
        new.rename(path)
        return
    old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
    path.rename(old / path.name)
    try:
        new.rename(path)
    except BaseException:
        (old / path.name).rename(path)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _open_permissions(path: Path, mode: int) -> None:
    """The permissions that an ordinary new file would have: temporary ones are private."""
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(mode & ~umask)


def refuse_foreign(
    path: Path, *, is_ours: Callable[[Path], bool], overwrite: bool, setting: str = "save_file"
) -> None:
    """Refuse to replace what this tool did not write; `setting` is how the user names another place."""
    elsewhere = f"choose another place with {Setting(setting)}"
    if path.is_dir() and is_ours is not is_our_folder:  # nobody means a whole folder by a file's --overwrite
        raise BadFile("there is a folder of that name", where=str(path), remedy=elsewhere)
    if path.exists() and not overwrite and not is_ours(path):
        raise BadFile(
            "it exists and was not written by ann2snn",
            where=str(path),
            remedy=f"{elsewhere}, or replace it with {Setting('overwrite', True)}",
        )


def is_our_folder(path: Path) -> bool:
    """Does its manifest name a schema of ours?"""
    return path.is_dir() and is_our_json(path / MANIFEST)


def is_our_json(path: Path) -> bool:
    """A JSON document that names a schema of ours."""
    try:
        document = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(document, dict) and str(document.get("schema", "")).startswith(OURS)


def is_our_yaml(path: Path) -> bool:
    """Settings that we saved begin with our comment."""
    try:
        return path.read_text("utf-8").startswith(SETTINGS_HEADER)
    except (OSError, ValueError):
        return False


def size_of(path: Path) -> int:
    """The bytes of a file, or of all files of a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())


SETTINGS_HEADER = "# ann2snn settings"


def as_json(document: dict[str, Any]) -> bytes:
    """A JSON document in bytes, the same for the same content."""
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def refuse_unwritable(folder: Path, setting: str = "save_file") -> None:
    """Refuse a folder that cannot be written to, before any work is done for it."""
    nearest = folder.absolute()
    while not nearest.exists():
        nearest = nearest.parent
    if not (nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)):
        raise BadFile(
            "results cannot be written there",
            where=str(folder),
            remedy=f"choose another place with {Setting(setting)}",
        )
