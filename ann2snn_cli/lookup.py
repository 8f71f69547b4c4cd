"""What catalog and data share: the answer to an unknown name, and running code from a user's own file."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from ann2snn_cli.errors import Ann2SnnError, UsageError


def unknown(kind: str, name: str, known: Iterable[str], more: str = "") -> UsageError:
    """The error for a name that is not there: the nearest one, all there are, and `more` ways to say it."""
    names = sorted(known)
    folded = {each.lower().replace("-", "_"): each for each in names}
    near = get_close_matches(name.lower().replace("-", "_"), folded, n=1)
    meant = f"did you mean {folded[near[0]]}? " if near else ""
    choices = f"choose from: {', '.join(names)}" if names else f"no {kind} is known"
    return UsageError(f"unknown {kind} {name!r}", remedy=f"{meant}{choices}{more}")


def chosen(kind: str, given: Iterable[str], known: Iterable[str]) -> list[str]:
    """Names given one by one or with commas between, each once; refused if one is not known."""
    names = [name.strip() for each in given for name in each.split(",") if name.strip()]
    known = list(known)
    for name in names:
        if name not in known:
            raise unknown(kind, name, known)
    return list(dict.fromkeys(names))


@dataclass(frozen=True)
class Reference:
    """A function in a user's own code: `path.py`, `path.py:function` or `package.module:function`."""

    source: str  # the file's path, or the module's dotted name
    attribute: str
    in_module: bool = False

    @property
    def shown(self) -> str:
        """The reference as the user would write it."""
        return f"{self.source}:{self.attribute}"

    @property
    def folder(self) -> Path:
        """Where its own imports may come from: beside the file, or the working directory."""
        return Path.cwd() if self.in_module else Path(self.source).resolve().parent


def split_reference(text: str) -> tuple[str, str]:
    """(source, attribute) of `source:attribute`; the attribute is "" where none is named."""
    source, colon, attribute = text.rpartition(":")
    if colon and attribute.isidentifier():
        return source, attribute
    return text, ""


def is_dotted_name(text: str) -> bool:
    """Whether `text` can name a module, such as `package.module`."""
    return all(part.isidentifier() for part in text.split("."))


def load(reference: Reference, expected: str) -> Any:
    """What the reference names; `expected` says in an error what should be there: `def build(...)`."""
    with users_code(reference, UsageError, f"correct the file; it must define {expected}"):
        module = _module(reference)
    if not hasattr(module, reference.attribute):
        callables = [name for name, value in vars(module).items() if callable(value) and name[0] != "_"]
        others = f" (it has {', '.join(sorted(callables))})" if callables else ""
        raise UsageError(
            f"{reference.source} has no {reference.attribute!r}{others}",
            where=reference.shown,
            remedy=f"define {expected}, or name another function as {reference.source}:NAME",
        )
    return getattr(module, reference.attribute)


@contextmanager
def users_code(reference: Reference, error: type[Ann2SnnError], remedy: str) -> Iterator[None]:
    """Run a user's code: its prints go to stderr (stdout is for results), what it raises becomes `error`."""
    folder = str(reference.folder)
    # A module is found as `python -m` would find it; a file's neighbours must not hide installed packages.
    sys.path.insert(0 if reference.in_module else len(sys.path), folder)
    try:
        with redirect_stdout(sys.stderr):
            yield
    except Ann2SnnError:
        raise
    except (Exception, SystemExit) as raised:
        what = f"{type(raised).__name__}: {_first_line(raised)}"
        raise error(what, where=_place(raised, reference), remedy=remedy) from raised
    finally:
        if folder in sys.path:
            sys.path.remove(folder)


def _module(reference: Reference) -> ModuleType:
    if reference.in_module:
        return importlib.import_module(reference.source)
    path = Path(reference.source).resolve()
    # A private name: the user's lenet.py must neither be taken for, nor replace, a package `lenet`.
    name = f"ann2snn_user_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path.name} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and torch.export look a class's module up by name
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _first_line(raised: BaseException) -> str:
    text = raised.msg if isinstance(raised, SyntaxError) else str(raised)
    return (text.strip().splitlines() or ["no message"])[0]


def _place(raised: BaseException, reference: Reference) -> str:
    """`file:line`, the innermost in the user's own file if the error passed through it."""
    if isinstance(raised, SyntaxError) and raised.filename:
        return f"{raised.filename}:{raised.lineno}"
    frames = traceback.extract_tb(raised.__traceback__)
    module = sys.modules.get(reference.source) if reference.in_module else None
    source = Path(getattr(module, "__file__", None) or reference.source).resolve()
    own = [frame for frame in frames if Path(frame.filename).resolve() == source]
    outside = [frame for frame in frames if not _is_machinery(frame.filename)]
    return (
        f"{(own or outside)[-1].filename}:{(own or outside)[-1].lineno}"
        if own or outside
        else reference.shown
    )


def _is_machinery(filename: str) -> bool:
    """Whether the frame is ours or the import system's, where no user has anything to correct."""
    ours = Path(__file__).parent in Path(filename).parents
    return ours or filename.startswith("<frozen") or Path(filename).parent.name == "importlib"
