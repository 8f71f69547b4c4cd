"""Downloads: whole and verified or not at all, and a broken one goes on where it stopped.

What has come so far lies beside the final name as `.NAME.part`, with what the server says of its version in
`.NAME.tag`: it goes on with that version only. What is there and has the checksum is not downloaded again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import logging
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from ann2snn_cli.errors import DownloadFailed, Setting, Stopped, UsageError

log = logging.getLogger(__name__)

ATTEMPTS = 3  # in one run
PATIENCE = 30.0  # seconds without a byte
CHUNK = 1 << 16
SECONDS_BETWEEN_LINES = 10.0
DIGITS = {"sha256": 64, "md5": 32}
AGAIN = "repeat the command: it goes on where it stopped"
BY_HAND = "check the address and the network; or download it by other means, and give its path"


@dataclass(frozen=True)
class Checksum:
    """What the content must hash to."""

    algorithm: str
    digest: str  # hexadecimal, in small letters

    def of(self, path: Path) -> str:
        """The hash of a file by this algorithm."""
        found = hashlib.new(self.algorithm)
        with path.open("rb") as file:
            while part := file.read(1 << 20):
                found.update(part)
        return found.hexdigest()


def user_cache() -> Path:
    """The folder for what can be made or fetched again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ann2snn"


def is_url(text: str) -> bool:
    """Is it an address, not a name or path?"""
    return "://" in text


def in_cache(url: str) -> Path:
    """Where the file of this address lies in the cache, or would: each has a folder of its own."""
    name = re.sub(r"[^\w.-]", "_", unquote(Path(urlsplit(url).path).name)) or "file"
    return user_cache() / "downloads" / hashlib.sha256(url.encode()).hexdigest()[:12] / name


def file_of(address: str, setting: str) -> Path:
    """The file of `URL` or `URL#sha256=HASH`, in the cache; `setting` is where the address was given."""
    url, _, fragment = address.partition("#")
    checksum = _read_checksum(fragment, address, setting)
    path = fetch(url, in_cache(url), checksum)
    if checksum is None:
        found = Checksum("sha256", "").of(path)
        log.info("to be sure of the same file again: %s", Setting(setting, f"{url}#sha256={found}"))
    return path


def _read_checksum(fragment: str, address: str, setting: str) -> Checksum | None:
    if not address.startswith(("http://", "https://")):
        remedy = "give an address that begins with https:// or http://, or the path of a file"
        raise UsageError(f"{address} cannot be downloaded", where=str(Setting(setting)), remedy=remedy)
    if not fragment:
        return None
    name, _, digest = fragment.partition("=")
    if name not in DIGITS or not re.fullmatch(f"[0-9a-fA-F]{{{DIGITS[name]}}}", digest):
        raise UsageError(
            f"{fragment!r} is no checksum",
            where=str(Setting(setting)),
            remedy="end the address with #sha256= and 64 hexadecimal digits, as sha256sum prints them",
        )
    return Checksum(name, digest.lower())


def fetch(url: str, path: Path, checksum: Checksum | None = None) -> Path:
    """The file of this address, at this path: the one that lies there if its checksum fits, else downloaded.

    Two processes that want the same file take turns. DownloadFailed says what went wrong.
    """
    with _taking_turns(path):
        if checksum and path.is_file() and checksum.of(path) == checksum.digest:
            log.debug("%s is there already: %s", url, path)
            return path
        part = _Part(path, checksum)
        with _resumable(part):
            resumed = _download(url, part)
            if not part.fits() and resumed:
                log.info("its checksum is wrong: once more from the beginning")
                part.forget()
                _download(url, part)
        part.finish(url)
    return path


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(f".{path.name}.{ending}")


@contextlib.contextmanager
def _taking_turns(path: Path) -> Iterator[None]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held: IO[Any] = _beside(path, "lock").open("w")
    except OSError as error:
        raise DownloadFailed(
            f"a download cannot be kept there: {error.strerror or error}",
            where=str(path.parent),
            remedy="make room there, or set XDG_CACHE_HOME to a folder that can be written to",
        ) from None
    with held:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(held, fcntl.LOCK_EX)
        yield


@dataclass(frozen=True)
class _Part:
    """What has come so far of a file."""

    final: Path
    checksum: Checksum | None

    @property
    def path(self) -> Path:
        return _beside(self.final, "part")

    @property
    def tag(self) -> str:
        """What the server said of the version that it is a part of; "" if nothing."""
        there = _beside(self.final, "tag")
        return there.read_text("utf-8") if there.is_file() else ""

    @property
    def size(self) -> int:
        """The bytes that can be gone on from: none where nobody could tell that the versions are the same."""
        can_go_on = self.path.is_file() and (self.tag or self.checksum)
        return self.path.stat().st_size if can_go_on else 0

    def begin(self, response: http.client.HTTPResponse) -> None:
        """A new version comes, from its first byte."""
        tag = response.headers.get("ETag", "")
        known = response.headers.get("Last-Modified", "") if not tag or tag.startswith("W/") else tag
        self.path.write_bytes(b"")
        _beside(self.final, "tag").write_text(known, "utf-8")

    def forget(self) -> None:
        for each in (self.path, _beside(self.final, "tag")):
            each.unlink(missing_ok=True)

    def fits(self) -> bool:
        return self.checksum is None or self.checksum.of(self.path) == self.checksum.digest

    def finish(self, url: str) -> None:
        """Give it its final name, or refuse it: then nothing is left of it."""
        if self.checksum and not self.fits():
            found = self.checksum.of(self.path)
            self.forget()
            raise DownloadFailed(
                f"it is another file: its {self.checksum.algorithm} is {found}, not {self.checksum.digest}",
                where=url,
                remedy="check the address and the checksum; nothing of it was kept",
            )
        os.replace(self.path, self.final)
        self.forget()


@contextlib.contextmanager
def _resumable(part: _Part) -> Iterator[None]:
    """Who stops it is told that it can go on, where it can."""
    try:
        yield
    except KeyboardInterrupt as stopped:
        raise Stopped.told(stopped, AGAIN if part.size else "") from None


class _CutError(Exception):
    """The connection ended too early."""


def _download(url: str, part: _Part) -> bool:
    """Bring the part to its full length. Was any of it there before, or come by another connection?"""
    resumed, reason = False, ""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            resumed |= part.size > 0
            _go_on(url, part)
        except _CutError as cut:
            reason = str(cut)
            log.debug("attempt %s of %s: %s", attempt, ATTEMPTS, reason)
        else:
            return resumed
    raise DownloadFailed(reason, where=url, remedy=AGAIN if part.size else BY_HAND)


def _go_on(url: str, part: _Part) -> None:
    start = part.size
    with contextlib.closing(_opened(url, part, start)) as response:
        goes_on = response.status == http.client.PARTIAL_CONTENT
        if goes_on and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            part.forget()
            raise _CutError("the server sent another part of the file than was asked for")
        if not goes_on:
            part.begin(response)
            start = 0
        length = response.headers.get("Content-Length", "")
        whole = start + int(length) if length.isdecimal() else None
        log.info("%s %s%s", "going on with" if start else "downloading", url, _size(start, whole))
        _copy(response, part, start, whole)


def _opened(url: str, part: _Part, start: int) -> http.client.HTTPResponse:
    """The answer of the server: from `start` on, if it can do that and has that version still."""
    headers = {"User-Agent": "ann2snn", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        headers |= {"If-Range": part.tag} if part.tag else {}
    try:
        response: http.client.HTTPResponse = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=PATIENCE
        )
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and start:
            part.forget()
            raise _CutError("the server has no more of the file than is here") from None
        what = f"the server answers {error.code} {error.reason}"
        raise DownloadFailed(what, where=url, remedy=BY_HAND) from None
    except (OSError, http.client.HTTPException, ValueError) as error:  # URLError is an OSError
        reason = getattr(error, "reason", None) or error
        words = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
        raise DownloadFailed(f"the server cannot be reached: {words}", where=url, remedy=BY_HAND) from None
    return response


def _copy(response: http.client.HTTPResponse, part: _Part, start: int, whole: int | None) -> None:
    done, told = start, time.monotonic()
    with part.path.open("ab") as file:
        while chunk := _read(response, done, whole):
            file.write(chunk)
            done += len(chunk)
            if time.monotonic() - told >= SECONDS_BETWEEN_LINES:
                told = time.monotonic()
                log.info("downloading%s", _size(done, whole))
    if whole is not None and done < whole:
        raise _CutError(f"the connection was cut after {done:,} of {whole:,} bytes")


def _read(response: http.client.HTTPResponse, done: int, whole: int | None) -> bytes:
    try:
        return response.read(CHUNK)
    except (OSError, http.client.HTTPException) as error:
        of = f" of {whole:,}" if whole is not None else ""
        words = "no byte came for a while" if isinstance(error, TimeoutError) else "the connection was cut"
        raise _CutError(f"{words} after {done:,}{of} bytes") from None


def _size(done: int, whole: int | None) -> str:
    parts = [f"{done / 1e6:.1f}" if done else "", f"{whole / 1e6:.1f}" if whole else ""]
    words = " of ".join(each for each in parts if each)
    return f" ({words} MB)" if words else ""
