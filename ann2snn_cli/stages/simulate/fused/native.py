"""The compiled kernel: `kernel.c` built by the system's compiler at first use, tried out, and kept for later.

It lies in the user's cache folder by a hash of what it was built from and for. Where no folder keeps it,
every process builds it.
"""

from __future__ import annotations

import ctypes
import hashlib
import platform
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ctypes import Structure, byref, c_int64
from functools import cache, partial
from pathlib import Path

import torch

from ann2snn_cli.downloads import user_cache
from ann2snn_cli.stages.simulate.fused.trial import Trial
from ann2snn_cli.twins import programs

SOURCE = Path(__file__).parent / "kernel.c"
FLAGS = ("-O3", "-fwrapv", "-shared", "-fPIC")
VARIANTS = (("-march=native",), ("-mcpu=native",), ("-DPLAIN",))  # x86, others, and plain C
REPEATS = 5


class Unavailable(Exception):
    """Why there is no kernel, with the remedy."""


def unavailable() -> str:
    """Why it cannot run here, with the remedy; nothing if it can."""
    try:
        kernel()
    except Unavailable as problem:
        return str(problem)
    return ""


def run(function: str, request: Structure, items: int) -> None:
    """Let torch's number of threads share the items."""
    _run(getattr(kernel(), function), request, items)


@cache
def kernel() -> ctypes.CDLL:
    """The kernel for this processor."""
    if reason := programs.no_c_compiler():
        raise Unavailable(reason)
    name = f"kernel-{_key()}.so"
    try:
        return _kept_in(_cache_folder(), name)
    except OSError:  # no such folder can be made, or no program may be loaded from it
        with tempfile.TemporaryDirectory() as folder:
            try:
                return _kept_in(Path(folder), name)
            except OSError as problem:
                raise Unavailable(f"the compiled kernel cannot be loaded: {problem}") from problem


def _kept_in(folder: Path, name: str) -> ctypes.CDLL:
    if not (folder / name).exists():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=folder) as work:
            fastest(built(Path(work))).replace(folder / name)
    return ctypes.CDLL(str(folder / name))


def built(work: Path) -> list[Path]:
    """The kernel in every variant that compiles here."""
    found, problems = [], []
    for number, variant in enumerate(VARIANTS):
        made = work / f"{number}.so"
        done = programs.run([*programs.c_compiler(), *FLAGS, *variant, SOURCE, "-o", made])
        if not done.returncode:
            found.append(made)
            continue
        said = done.stderr.splitlines()
        problems.append(next((line for line in said if "error" in line), " ".join(said[-1:])))
    if not found:
        raise Unavailable(f"{' '.join(programs.c_compiler())} cannot compile {SOURCE.name}: {problems[-1]}")
    return found


def fastest(variants: list[Path]) -> Path:
    """Of the variants that give right results here, the one that takes least time."""
    trial = Trial()
    seconds = {}
    for variant in variants:
        attempt = partial(_run, ctypes.CDLL(str(variant)).fire)
        if trial.succeeds(attempt):
            seconds[variant] = min(_seconds(partial(trial.succeeds, attempt)) for _ in range(REPEATS))
    if not seconds:
        raise Unavailable("the compiled kernel gives wrong results on this machine")
    return min(seconds, key=lambda variant: seconds[variant])


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _key() -> str:
    """What it is built from, by what, and for what: another processor may have the same home folder."""
    parts = [SOURCE.read_bytes(), repr((programs.c_compiler(), FLAGS, VARIANTS)).encode(), _processor()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _cache_folder() -> Path:
    return user_cache()


def _processor() -> bytes:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    features = {line for line in lines if line.startswith(("flags", "Features"))}
    return "\n".join([platform.machine(), platform.processor(), *sorted(features)]).encode()


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
