"""The compiled kernel: `kernel.c` built by the system's compiler, kept in the user's cache, and tried out."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ctypes import Structure, byref, c_int64
from functools import cache, partial
from pathlib import Path

import torch

from ann2snn_cli.stages.simulate.fused.trial import is_exact
from ann2snn_cli.twins import programs

SOURCE = Path(__file__).parent / "kernel.c"
FLAGS = ("-O3", "-fwrapv", "-shared", "-fPIC")
FAST, PLAIN = ("-march=native",), ("-DPLAIN",)  # the second where the first does not compile, or is not exact


class Unavailable(Exception):
    """Why there is no kernel, with the remedy."""


def unavailable() -> str:
    """Why it cannot run here, with the remedy; nothing if it can."""
    try:
        kernel()
    except Unavailable as problem:
        return str(problem)
    return ""


@cache
def kernel() -> ctypes.CDLL:
    """The kernel as it is built for this processor, or in plain C where that is not exact here."""
    for variant in (FAST, PLAIN):
        try:
            found = _kernel(variant)
        except Unavailable as problem:
            reason = problem
            continue
        if is_exact(partial(_run, found.fire)):
            return found
        reason = Unavailable("the compiled kernel gives wrong results on this machine")
    raise reason


def _kernel(variant: tuple[str, ...]) -> ctypes.CDLL:
    """The kernel, built with these flags; raises Unavailable."""
    if reason := programs.no_c_compiler():
        raise Unavailable(reason)
    command = [*programs.c_compiler(), *FLAGS, *variant]
    code = SOURCE.read_bytes()
    key = hashlib.sha256(b"\0".join([code, *(part.encode() for part in command), _processor()])).hexdigest()
    name = f"kernel-{key[:16]}.so"
    try:
        return _loaded(command, _cache_folder() / name)
    except OSError:  # no such folder can be made, or no program may be loaded from it
        with tempfile.TemporaryDirectory() as folder:
            try:
                return _loaded(command, Path(folder) / name)
            except OSError as problem:
                raise Unavailable(f"the compiled kernel cannot be loaded: {problem}") from problem


def _loaded(command: list[str], place: Path) -> ctypes.CDLL:
    if not place.exists():
        _build(command, place)
    return ctypes.CDLL(str(place))


def _build(command: list[str], place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=place.parent) as work:
        made = Path(work) / place.name
        done = programs.run([*command, SOURCE, "-o", made])
        if done.returncode:
            said = done.stderr.splitlines()
            first = next((line for line in said if "error" in line), " ".join(said[-1:]))
            raise Unavailable(f"{' '.join(command)} cannot compile {SOURCE.name}: {first}")
        made.replace(place)


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ann2snn"


def _processor() -> bytes:
    """What it is built for: another processor, perhaps with the same home folder, needs another kernel."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = [platform.processor(), platform.machine()]
    return "\n".join(
        sorted({line for line in lines if line.startswith(("flags", "Features"))} or lines)
    ).encode()


def run(function: str, request: Structure, items: int) -> None:
    """Let torch's number of threads share the items."""
    _run(getattr(kernel(), function), request, items)


def _run(function: Callable[..., int], request: Structure, items: int) -> None:
    threads = max(1, min(torch.get_num_threads(), items))
    ends = [items * part // threads for part in range(threads + 1)]

    def share(part: int) -> int:
        return function(byref(request), c_int64(ends[part]), c_int64(ends[part + 1]))

    failed = [share(0)] if threads == 1 else list(_pool(threads).map(share, range(threads)))
    if any(failed):
        raise MemoryError


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="ann2snn")
