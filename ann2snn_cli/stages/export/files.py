"""How results reach the disk: whole or not at all, and never over something of the user's.

That is what we did not write, and what was changed since we wrote it: every file holds a hash of its own
content (`sealed`), or the manifest beside it does.
"""

from __future__ import annotations

import fcntl
import glob
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from ann2snn_cli.errors import BadFile, Setting

MANIFEST = "manifest.json"
LOCK = "lock"  # in a temporary folder: held by the run that writes into it
OURS = "ann2snn/"  # every JSON document of ours names a schema that starts so


Asks = Callable[[Path], bool]


def write_file(
    path: Path,
    content: bytes,
    *,
    is_ours: Asks,
    is_unchanged: Asks | None = None,
    overwrite: bool = False,
    setting: str = "save_file",
) -> Path:
    """Write a file under a temporary name, then rename it. An earlier result of ours is replaced.

    A link stays, and what it points to is replaced.
    """
    refuse_loss(path, is_ours=is_ours, is_unchanged=is_unchanged, overwrite=overwrite, setting=setting)
    to = Path(os.path.realpath(path))
    refuse_unwritable(to.parent, setting)
    to.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(to.parent, to.name)
    handle, temporary = tempfile.mkstemp(dir=to.parent, prefix=temporary_prefix(to.name))
    try:
        with os.fdopen(handle, "wb") as file:
            lock(file)
            file.write(content)
        _open_permissions(Path(temporary), 0o666)
        os.replace(temporary, to)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


# Temporary files, and those of runs that were killed -----------------------------------------------


def temporary_prefix(name: str) -> str:
    """How the name of a file or folder begins while what shall be called NAME is written."""
    return f".{name}.writing."


def lock(file: IO[Any], *, wait: bool = False) -> bool:
    """Hold the file until it is closed, or the process ends in whatever way. False: another holds it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: nothing is in doubt for the one who writes
        return wait
    return True


def remove_stale(folder: Path, name: str) -> None:
    """Remove what runs that were killed had begun to write under this name, and nobody is writing now."""
    for path in folder.glob(f"{glob.escape(temporary_prefix(name))}*"):
        try:
            with (path / LOCK if path.is_dir() else path).open("r+b") as file:
                is_stale = lock(file)
        except FileNotFoundError:
            is_stale = path.is_dir()
        except OSError:  # not ours to look at
            continue
        if is_stale and path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif is_stale:
            path.unlink(missing_ok=True)


def _open_permissions(path: Path, mode: int) -> None:
    """The permissions that an ordinary new file would have: temporary ones are private."""
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(mode & ~umask)


# What is the user's --------------------------------------------------------------------------------


def refuse_loss(
    path: Path,
    *,
    is_ours: Asks,
    is_unchanged: Asks | None = None,
    overwrite: bool,
    setting: str = "save_file",
) -> None:
    """Refuse to replace a file that we did not write, or that was changed since.

    The file's own seal says that, unless `is_unchanged` does. `setting` is how the user names another place.
    """
    elsewhere = f"choose another place with {Setting(setting)}"
    if path.is_dir():  # nobody means a whole folder by a file's --overwrite
        raise BadFile("there is a folder of that name", where=str(path), remedy=elsewhere)
    if overwrite or not path.exists():
        return
    what = "" if is_ours(path) else "it exists and was not written by ann2snn"
    if not what and not (is_unchanged or is_sealed)(path):
        what = CHANGED if is_unchanged or _seal(path.read_bytes()) else UNSEALED
    if what:
        raise BadFile(
            what, where=str(path), remedy=f"{elsewhere}, or replace it with {Setting('overwrite', True)}"
        )


CHANGED = "it was changed since ann2snn wrote it"
UNSEALED = "it was changed since ann2snn wrote it, or is of an earlier version: it holds no hash of itself"


SEAL = "file_sha256"
NO_SEAL = "0" * 64  # what stands in the place of a hash while it is computed
_SEAL = re.compile(SEAL.encode() + rb"[^0-9a-f]{1,4}([0-9a-f]{64})", re.DOTALL)


def sealed(content: bytes) -> bytes:
    """The content with its hash in the place of `NO_SEAL`, which stands behind the word `SEAL` in it."""
    found = _seal(content)
    assert found is not None
    return content[: found.start(1)] + _hash_without(content, found) + content[found.end(1) :]


def is_sealed(path: Path) -> bool:
    """Does the file hold the hash of its content?"""
    return _agrees(path.read_bytes()) is True


def change_note(path: Path) -> str:
    """What to know of a file whose content is not that of its hash; empty where it is, or has none."""
    return (
        f"{path}: the file was changed since ann2snn wrote it" if _agrees(path.read_bytes()) is False else ""
    )


def _agrees(content: bytes) -> bool | None:
    """Is the content that of the hash that it holds? None where it holds none."""
    found = _seal(content)
    return None if found is None else found[1] == _hash_without(content, found)


def _seal(content: bytes) -> re.Match[bytes] | None:
    return max(_SEAL.finditer(content), key=lambda found: found.start(), default=None)


def _hash_without(content: bytes, found: re.Match[bytes]) -> bytes:
    digest = hashlib.sha256(content[: found.start(1)])
    digest.update(NO_SEAL.encode())
    digest.update(content[found.end(1) :])
    return digest.hexdigest().encode()


def sha256_of(path: Path) -> str:
    """The hash of a file, read part by part."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


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


# A path may hold bytes that are no text. Written so, JSON and YAML read them back as the same path.
UNREADABLE = "backslashreplace"

SETTINGS_HEADER = "# ann2snn settings"


def as_sealed_json(document: dict[str, Any]) -> bytes:
    """A JSON document that holds its own hash."""
    return sealed(as_json({**document, SEAL: NO_SEAL}))


def as_json(document: dict[str, Any]) -> bytes:
    """A JSON document in bytes, the same for the same content."""
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode("utf-8", UNREADABLE)


def refuse_unwritable(folder: Path, setting: str = "save_file") -> None:
    """Refuse a folder that cannot be written to, before any work is done for it.

    It is tried with an empty file: permissions do not tell what a file system such as /proc allows.
    """
    nearest = folder.absolute()
    while not nearest.exists():
        nearest = nearest.parent
    try:
        tempfile.TemporaryFile(dir=nearest, prefix=".ann2snn.").close()
    except OSError as error:
        raise BadFile(
            f"results cannot be written there: {error.strerror or error}",
            where=str(folder),
            remedy=f"choose another place with {Setting(setting)}",
        ) from None
