"""Where public data lie: unpacked in a folder, packed in it, in the cache, or still to be downloaded."""

from __future__ import annotations

import gzip
import hashlib
import logging
import lzma
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ann2snn_cli.downloads import user_cache
from ann2snn_cli.errors import BadData

OPENERS: dict[str, Callable[[Path], Any]] = {".gz": gzip.open, ".xz": lzma.open}
log = logging.getLogger(__name__)


def locate(root: Path, files: Sequence[str], download: Callable[[Path], None]) -> Path:
    """The folder under which every one of `files` (relative paths) lies unpacked.

    That is `root`, or, where nothing can be written there, a folder of the user's cache. What lies packed is
    unpacked; what does not lie there at all is fetched by `download(folder)`.
    """
    if all((root / file).is_file() for file in files):
        return root
    folders = {(root / file).parent for file in files}
    home = root if all(_is_writable(folder) for folder in folders) else cache_of(root)
    sources = {file: source for file in files if (source := _source(root / file))}
    if len(sources) == len(files):
        for file, source in sources.items():
            bring(source, home / file)
    elif not all((home / file).is_file() for file in files):
        _fetch(home, files, download)
    return home


def cache_of(root: Path) -> Path:
    """The user's cache for a data folder that cannot be written to."""
    return user_cache() / "data" / hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:12]


def _source(path: Path) -> Path | None:
    """The file itself, or a packed one beside it."""
    for candidate in (path, *(path.with_name(path.name + suffix) for suffix in OPENERS)):
        if candidate.is_file():
            return candidate
    return None


def _is_writable(folder: Path) -> bool:
    existing = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
    # Root may write everywhere; a folder that is marked read-only shall stay as it is for root, too.
    marked_writable = bool(existing.stat().st_mode & 0o222)
    return existing.is_dir() and marked_writable and os.access(existing, os.W_OK)


def bring(source: Path, target: Path) -> None:
    """Copy or unpack; a file that is there already stays, unless its source has changed since."""
    modified = source.stat().st_mtime_ns
    if target == source or (target.is_file() and target.stat().st_mtime_ns == modified):
        return
    log.info("unpacking %s into %s", source, target.parent)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        os.close(handle)
    except OSError as error:
        raise BadData(
            f"cannot unpack {source.name}: {error.strerror}",
            where=str(target.parent),
            remedy="make room there, or set XDG_CACHE_HOME to a folder that can be written to",
        ) from None
    try:
        with OPENERS.get(source.suffix, _plain)(source) as packed, open(temporary, "wb") as unpacked:
            shutil.copyfileobj(packed, unpacked, 1 << 20)
        shutil.copymode(source, temporary)  # mkstemp makes private files
        os.utime(temporary, ns=(modified, modified))
        os.replace(temporary, target)
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        os.unlink(temporary)
        what = f"cannot unpack it: {error}"
        remedy = "copy the file again: it is damaged, or the disk is full"
        raise BadData(what, where=str(source), remedy=remedy) from None


def _plain(path: Path) -> Any:
    return open(path, "rb")


def _fetch(home: Path, files: Sequence[str], download: Callable[[Path], None]) -> None:
    """Download beside, then move: a download that was broken off leaves nothing that looks complete."""
    created = [each for each in (home, *home.absolute().parents) if not each.exists()]
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=home) as staging:
            download(Path(staging))
            for file in files:
                (home / file).parent.mkdir(parents=True, exist_ok=True)
                os.replace(Path(staging) / file, home / file)
    except BaseException:
        for folder in created:  # ours, and empty: a mistyped --data_dir shall leave no trace
            with suppress(OSError):
                folder.rmdir()
        raise
