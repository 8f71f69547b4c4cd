"""Run other programs, and whatever they start: none of them outlives us, however we end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path


def run(
    command: Sequence[str | Path], *, work: Path | None = None, together: bool = False
) -> subprocess.CompletedProcess[str]:
    """What a program printed and how it ended; `together`: its errors stand in its output.

    A compiler starts others. They are one group here, which is ended as a whole where we are stopped.
    """
    errors = subprocess.STDOUT if together else subprocess.PIPE
    with subprocess.Popen(
        command,
        cwd=work,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    ) as child:
        try:
            output, said = child.communicate()
        except BaseException:
            _end(child)
            raise
    return subprocess.CompletedProcess(list(command), child.returncode, output, said or "")


def _end(child: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(child.pid, signal.SIGKILL)
        else:
            child.kill()
    child.wait()
