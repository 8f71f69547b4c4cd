"""`ann2snn` and `python -m ann2snn_cli`: run a command, and turn whatever goes wrong into three lines."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import errno
import gc
import io
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ann2snn_cli.commands import cli
from ann2snn_cli.commands.flags import in_flags
from ann2snn_cli.commands.render import note, to_json
from ann2snn_cli.commands.signals import SIGNALS, ended_by_signals
from ann2snn_cli.config import KEYS
from ann2snn_cli.errors import Ann2SnnError, HardwareViolations, Stopped, violation_line

SETTINGS = {word.lstrip("-") for key in KEYS.values() for word in (key.flag, f"no_{key.flag}", key.short)}
OS_REMEDIES = {
    errno.ENOENT: "check the path",
    errno.EACCES: "choose a file or folder that you may read and write",
    errno.EPERM: "choose a file or folder that you may read and write",
    errno.EROFS: "choose a folder that can be written to",
    errno.ENOSPC: "free some space, or write to another disk",
}


@dataclass(frozen=True)
class Failure:
    """What a user is told, and the exit code."""

    what: str
    where: str = ""
    remedy: str = ""
    exit_code: int = 1
    violations: tuple[object, ...] = ()


def run() -> None:
    """Run the program. When a command has ended, no signal changes its exit code any more."""
    gc.set_threshold(50_000)  # torch makes millions of objects: to search them for cycles takes a second
    _keep_freed_memory()
    code = main()
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    gc.freeze()  # or the interpreter searches them once more, before it ends: another second
    sys.exit(code)


def _keep_freed_memory() -> None:
    """Large tensors get the memory of those before them; glibc alone gives it back and clears it each time.

    That takes a sixth of the time of a conversion, and a third of a short training.
    """
    mmap_threshold, trim_threshold = -3, -1
    if not any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        with contextlib.suppress(OSError, AttributeError, TypeError):  # another system or C library
            libc = ctypes.CDLL(None)
            libc.mallopt(mmap_threshold, 2**30)
            libc.mallopt(trim_threshold, 2**31 - 1)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and give its exit code. The only place where errors become output."""
    words = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in words
    _prepare_streams()
    stdout = sys.stdout
    # A --json document shares its stream with nothing, whatever a library or a user's network prints.
    aside = contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext()
    try:
        with aside, ended_by_signals():
            code = cli.main(words or ["--help"], prog_name="ann2snn", standalone_mode=False, obj=stdout)
        stdout.flush()
        return code if isinstance(code, int) else 0
    except BrokenPipeError:  # the reader went away (`ann2snn ls | head -1`): nobody is left to be told
        return _close_quietly()
    except SystemExit as done:  # click's own end for a broken pipe
        return done.code if isinstance(done.code, int) else 1
    except BaseException as raised:
        if os.environ.get("ANN2SNN_TRACEBACK"):
            traceback.print_exc()
        failure = explain(raised)
        _tell(failure)
        try:
            if as_json:
                click.echo(to_json(_document(failure)), file=stdout)
            stdout.flush()
        except OSError:  # the disk of stdout is full, or nobody reads it any more
            _close_quietly()
        return failure.exit_code


def _prepare_streams() -> None:
    """Letters that a terminal lacks are shown by their numbers; what is said to a closed stream is lost.

    A closed stream (`>&-`) is opened again, to nothing, so that no file of ours gets its number.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def explain(raised: BaseException) -> Failure:
    """The failure behind an exception of any kind."""
    if isinstance(raised, Ann2SnnError):
        violations = raised.violations if isinstance(raised, HardwareViolations) else ()
        what, where, remedy = (in_flags(text) for text in (raised.what, raised.where, raised.remedy))
        return Failure(what, where, remedy, raised.exit_code, violations)
    if isinstance(raised, click.ClickException):
        return _click_failure(raised)
    # Click makes Abort of Ctrl-C, but also of any EOFError, such as a reader's of a cut file.
    if isinstance(raised, click.Abort) and isinstance(raised.__cause__, EOFError):
        return _fault(raised.__cause__)
    if isinstance(raised, click.Abort) and isinstance(raised.__cause__, Stopped):
        raised = raised.__cause__
    if isinstance(raised, Stopped):
        return Failure(raised.what, remedy=in_flags(raised.remedy), exit_code=raised.exit_code)
    if isinstance(raised, click.Abort | KeyboardInterrupt):
        return Failure("interrupted", exit_code=130)
    if type(raised).__name__ in ("MemoryError", "OutOfMemoryError"):  # torch has its own; not imported here
        return Failure(
            "out of memory", remedy="lower --batch_size and --test_batch_size, or use --device cpu"
        )
    if isinstance(raised, OSError) and raised.errno is not None:
        remedy = OS_REMEDIES.get(raised.errno, "check the file, the disk and the network")
        place = str(raised.filename) if raised.filename is not None else ""
        return Failure(raised.strerror or str(raised), place, remedy)
    return _fault(raised)


def _click_failure(raised: click.ClickException) -> Failure:
    context = raised.ctx if isinstance(raised, click.UsageError) else None
    path = context.command_path if context else "ann2snn"
    remedy = f"see `{path} --help`"
    if isinstance(raised, click.NoSuchOption):
        near = sorted(raised.possibilities or ())
        if raised.option_name.lstrip("-") in SETTINGS:
            remedy = f"leave it out: {path} does not use that setting"
        elif near:
            remedy = f"did you mean {' or '.join(near)}? {remedy}"
        return Failure(f"no such option: {raised.option_name}", path, remedy, raised.exit_code)
    what = raised.format_message().rstrip(".").replace("a valid integer range", "a whole number")
    return Failure(what[:1].lower() + what[1:], path, remedy, raised.exit_code)


def _fault(raised: BaseException) -> Failure:
    """An exception that nobody foresaw: ours to correct, and said so."""
    first_line = (str(raised).strip().splitlines() or [""])[0]
    frames = traceback.extract_tb(raised.__traceback__)
    home = str(Path(__file__).parent)
    own = [frame for frame in frames if frame.filename.startswith(home)] or frames
    where = f"{own[-1].filename}:{own[-1].lineno}" if own else ""
    what = f"a fault of ann2snn itself: {type(raised).__name__}" + (f": {first_line}" if first_line else "")
    return Failure(what, where, "run it again with ANN2SNN_TRACEBACK=1 and report what it prints")


def _tell(failure: Failure) -> None:
    lines = [f"error: {failure.what}", *(f"  - {violation_line(each)}" for each in failure.violations)]
    lines += [f"  where: {failure.where}"] if failure.where else []
    lines += [f"  remedy: {failure.remedy}"] if failure.remedy else []
    note("\n".join(lines))


def _document(failure: Failure) -> dict[str, Any]:
    error = {"what": failure.what, "where": failure.where, "remedy": failure.remedy}
    document: dict[str, Any] = {"schema": "ann2snn/error/1", "error": error}
    if failure.violations:
        document["hardware"] = {"ok": False, "violations": [_plain(each) for each in failure.violations]}
    return document


def _plain(violation: object) -> object:
    if dataclasses.is_dataclass(violation) and not isinstance(violation, type):
        facts = dataclasses.asdict(violation)
        return {name: in_flags(fact) if isinstance(fact, str) else fact for name, fact in facts.items()}
    return in_flags(str(violation))


def _close_quietly() -> int:
    """Give stdout an end that swallows what Python would still flush into the broken pipe."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


if __name__ == "__main__":
    run()
