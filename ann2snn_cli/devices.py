"""Which device a run computes on, and on how many threads.

GPUtil gives a hint for `auto` among several GPUs, never more.
"""

from __future__ import annotations

import math
import platform
import re
import warnings
from typing import Any

import torch

from ann2snn_cli.errors import Setting, UsageError

SETTING = str(Setting("device"))


def pick(device: str = "auto") -> torch.device:
    """The device that `auto`, `cpu`, `cuda` or `cuda:N` means here; UsageError for one that is not there."""
    named = re.fullmatch(r"cuda(?::(\d+))?", device)
    if device == "cpu":
        return torch.device("cpu")
    if device == "auto":
        return _best()
    if named is None:
        raise UsageError(f"unknown device {device!r}", where=SETTING, remedy=f"use {_choices()}")
    index = int(named.group(1) or 0)
    if index >= _gpu_count():
        count = _gpu_count()
        what = f"there is no {device}: torch sees {count} GPU{'' if count == 1 else 's'}"
        raise UsageError(what, where=SETTING, remedy=f"use {_choices()}; {_reason()}")
    return torch.device("cuda", index)


def use_threads(threads: int) -> None:
    """Let torch, and the engines, use so many threads of the CPU from now on; 0: as many as it does."""
    if threads:
        torch.set_num_threads(threads)


def describe() -> dict[str, Any]:
    """What a report of a problem needs to say about this machine; plain Python."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,  # what torch was built for; None for a CPU build
        "gpus": [_gpu(index) for index in range(_gpu_count())],
        "cpu_threads": torch.get_num_threads(),
        "auto": str(pick("auto")),
    }


def _gpu(index: int) -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(index)
    return {"device": f"cuda:{index}", "name": properties.name, "memory_mib": properties.total_memory >> 20}


def _gpu_count() -> int:
    with (
        warnings.catch_warnings()
    ):  # torch warns of drivers that are too old: the count is then 0, which says it
        warnings.simplefilter("ignore")
        return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _choices() -> str:
    return ", ".join(["auto", "cpu", *(f"cuda:{index}" for index in range(_gpu_count()))])


def _reason() -> str:
    if torch.version.cuda is None:
        return "this torch was built for CPUs only: install one built for CUDA"
    return "see `nvidia-smi` and CUDA_VISIBLE_DEVICES"


def _best() -> torch.device:
    """The CPU without GPUs; the GPU with the most free memory where there are several."""
    count = _gpu_count()
    if count == 0:
        return torch.device("cpu")
    free = _free_memory() if count > 1 else {}
    return torch.device("cuda", max(range(count), key=lambda index: free.get(_uuid(index), 0.0)))


def _uuid(index: int) -> str:
    """GPUtil numbers GPUs as the driver does, torch after CUDA_VISIBLE_DEVICES: only the UUID is the same."""
    return str(getattr(torch.cuda.get_device_properties(index), "uuid", "")).lower().removeprefix("gpu-")


def _free_memory() -> dict[str, float]:
    """MiB by UUID; empty where GPUtil cannot say.

    It needs setuptools on Python 3.12 and later, raises ValueError when the driver is ill, gives NaN for what
    the driver does not report, and knows no MIG slices. Asking torch would open a context on every GPU.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import GPUtil

            gpus = GPUtil.getGPUs()
        return {gpu.uuid.lower().removeprefix("gpu-"): _number(gpu.memoryFree) for gpu in gpus}
    except Exception:  # a hint: whatever is wrong with it, the first GPU will do
        return {}


def _number(value: float) -> float:
    return 0.0 if math.isnan(value) else float(value)
