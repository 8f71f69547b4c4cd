"""How much memory it takes to step a network, and what is free. One sample is the least that is stepped."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from ann2snn_cli.errors import Setting, UsageError
from ann2snn_cli.ir.graph import Graph

BYTES = 8  # of a value: some nodes need float64
COPIES = 3  # of what a node makes, while it makes it
CGROUP = Path("/sys/fs/cgroup")


def step_bytes(graph: Graph) -> int:
    """What one step of one sample takes where most is alive; a train takes it once for every step."""
    most, alive = 0, dict[str, int]()
    for node in graph.nodes:
        size = math.prod(node.shape)
        alive[node.name] = size
        most = max(most, sum(alive.values()) + (COPIES - 1) * size)
        for name in {*node.inputs, node.name}:
            if graph.last_use[name] == node.name:
                del alive[name]
    return most * BYTES


def refuse_too_long(graph: Graph, device: torch.device | str = "cpu", timesteps: int | None = None) -> None:
    """Refuse so many steps, those of the contract unless given, that one sample does not fit the memory."""
    steps = graph.timing.timesteps if timesteps is None else timesteps
    need, free = steps * step_bytes(graph), free_bytes(device)
    if free is None or need <= free:
        return
    fits = max(1, free // step_bytes(graph))
    raise UsageError(
        f"{steps:,} steps of one sample need about {need / 1e9:,.1f} GB of memory, "
        f"{free / 1e9:,.1f} GB are free",
        where=str(Setting("timesteps")),
        remedy=f"use {Setting('timesteps', fits)} or less",
    )


def free_bytes(device: torch.device | str = "cpu") -> int | None:
    """The memory that is free for more; None where the system does not tell."""
    device = torch.device(device)
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    found = [value for value in (_of_the_system(), _of_the_container()) if value is not None]
    return min(found, default=None)


def _of_the_system() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        return None


def _of_the_container() -> int | None:
    try:
        limit, used = (int((CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):  # no container, or one without a limit: "max"
        return None
    return max(0, limit - used)
