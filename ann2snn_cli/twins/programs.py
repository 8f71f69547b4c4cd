"""Run other programs, and whatever they start: none of them outlives us, however we end."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

C_COMPILERS = ("cc", "gcc", "clang")


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


def c_compiler() -> list[str]:
    """The command of the C compiler: $CC, or the first one that is there."""
    named = shlex.split(os.environ.get("CC", ""))
    return named or [name for name in C_COMPILERS if shutil.which(name)][:1]


def no_c_compiler() -> str:
    """Why no C compiler can be used, with the remedy; nothing if one can."""
    command = c_compiler()
    if not command:
        return (
            f"no C compiler was found ({', '.join(C_COMPILERS)}): install one, or name it in the variable CC"
        )
    if not shutil.which(command[0]):
        return f"the compiler {command[0]!r} that the variable CC names was not found: set CC, or unset it"
    return ""
