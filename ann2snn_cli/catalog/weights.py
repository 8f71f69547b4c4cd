"""Weights from a checkpoint into a network: read safely, and every disagreement listed before any is used.

Nothing here imports torch until it is called: `ann2snn --help` and `ls` must not wait for it.
"""

from __future__ import annotations

import errno
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ann2snn_cli.claims import torch_content
from ann2snn_cli.errors import BadFile, BadWeights

if TYPE_CHECKING:
    from torch import Tensor, nn

WRAPPERS = ("state_dict", "net", "model")  # keys that training scripts keep the state dict under
PREFIXES = ("module.", "_orig_mod.")  # DataParallel and torch.compile put the whole network under one name
SAVE = "torch.save(network.state_dict(), 'weights.pth')"
SHOWN = 10  # lines of each kind of disagreement


@dataclass(frozen=True)
class Weights:
    """Where weights came from."""

    path: str  # "" where there is no file
    sha256: str
    provenance: Mapping[str, Any] = field(default_factory=dict)  # what the checkpoint tells of itself

    @property
    def file(self) -> str:
        """The name of the file."""
        return Path(self.path).name

    @property
    def dataset(self) -> str:
        """What they were trained on; "" where the checkpoint does not say."""
        name = self.provenance.get("dataset", "")
        return name if isinstance(name, str) else ""

    def to_plain(self) -> dict[str, Any]:
        """Give plain Python: what the checkpoint tells, its file and its hash."""
        return {**self.provenance, "file": self.file, "sha256": self.sha256}


def load_weights(module: nn.Module, path: Path | str) -> Weights:
    """Load a checkpoint into `module` and say where it came from; one that does not fit changes nothing."""
    path = Path(path)
    content = read_checkpoint(path)
    given = _state_dict(content, path, module.state_dict())
    _refuse_mismatch(module.state_dict(), given, path)
    _refuse_not_finite(given, path)
    module.load_state_dict(given, strict=False)  # strict is done above, with shapes, in words of our own
    provenance = content.get("provenance", {})
    recorded = dict(provenance) if isinstance(provenance, Mapping) else {}
    return Weights(str(path), hashlib.sha256(path.read_bytes()).hexdigest(), recorded)


def read_checkpoint(path: Path) -> Mapping[str, Any]:
    """The mapping a checkpoint file holds; no code in it is run."""
    remedy = f"give a file written by {SAVE}"
    try:
        content = torch_content(path)
    except BadFile:
        raise
    except OSError as error:
        if error.errno == errno.EINVAL:  # torch's search in a file that was cut
            raise _unreadable(error, path, remedy) from None
        raise BadFile(f"cannot read it: {error.strerror or error}", where=str(path), remedy=remedy) from None
    except Exception as error:  # torch raises pickle's, zip's, its own and built-in errors for damaged files
        raise _unreadable(error, path, remedy) from None
    if not isinstance(content, Mapping):
        raise BadWeights(f"it holds a {type(content).__name__}", where=str(path), remedy=remedy)
    return content


def _unreadable(error: Exception, path: Path, remedy: str) -> BadFile | BadWeights:
    if "TorchScript" in str(error):
        return BadWeights("it is a TorchScript archive, not weights", where=str(path), remedy=remedy)
    if refused := re.search(r"GLOBAL\s+([\w.]+)", str(error)):
        return BadWeights(
            f"it holds the pickled object {refused.group(1)}, which would run code when it is loaded",
            where=str(path),
            remedy=f"save the weights alone, where the network's code is at hand: {SAVE}",
        )
    return BadFile("it is truncated, or not a torch file", where=str(path), remedy=remedy)


def _state_dict(content: Mapping[str, Any], path: Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors by name, without the wrapper of a training script and without those of torch."""
    import torch

    wrapped = [content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)]
    state = wrapped[0] if wrapped else content
    if not state or not all(isinstance(value, torch.Tensor) for value in state.values()):
        keys = ", ".join(str(key) for key in list(state)[:SHOWN]) or "nothing"
        raise BadWeights(
            f"it is not a state dict: it holds {keys}",
            where=str(path),
            remedy=f"give a file written by {SAVE}; under {', '.join(WRAPPERS)} will do as well",
        )
    named = {str(key): value for key, value in state.items()}
    while named.keys().isdisjoint(expected):
        prefix = next((each for each in PREFIXES if all(key.startswith(each) for key in named)), "")
        if not prefix:
            break
        named = {key.removeprefix(prefix): value for key, value in named.items()}
    return named


def _refuse_mismatch(expected: Mapping[str, Tensor], given: Mapping[str, Tensor], path: Path) -> None:
    # num_batches_tracked only counts batches; checkpoints from before torch 0.4.1 do not have it.
    needed = [key for key in expected if not key.endswith("num_batches_tracked")]
    shape = {key: tuple(tensor.shape) for key, tensor in expected.items()}
    complaints = {
        "missing": [f"{key} {shape[key]}" for key in needed if key not in given],
        "unexpected": [f"{key} {tuple(given[key].shape)}" for key in given if key not in expected],
        "shape": [
            f"{key} is {tuple(given[key].shape)} in the file and {shape[key]} in the network"
            for key in expected
            if key in given and tuple(given[key].shape) != shape[key]
        ],
    }
    if any(complaints.values()):
        lines = [line for kind, keys in complaints.items() for line in _listed(kind, keys)]
        raise BadWeights(
            "\n  ".join(["the weights do not fit the network", *lines]),
            where=str(path),
            remedy="give the checkpoint of this network, trained on data of this shape and number of classes",
        )


def _refuse_not_finite(given: Mapping[str, Tensor], path: Path) -> None:
    import torch

    from ann2snn_cli.ir.allowed import refusal_of_tensor

    without = {
        key: refusal_of_tensor(tensor) or "it is complex" * tensor.is_complex()
        for key, tensor in given.items()
    }
    if unusable := [f"{key} ({why})" for key, why in without.items() if why]:
        raise BadWeights(
            "\n  ".join(["the weights cannot be used", *_listed("in", unusable)]),
            where=str(path),
            remedy=f"give a file written by {SAVE}, of a network on the CPU",
        )
    bad = [key for key, tensor in given.items() if not bool(torch.isfinite(tensor).all())]
    if bad:
        raise BadWeights(
            "\n  ".join(["the weights hold NaN or infinite values", *_listed("in", bad)]),
            where=str(path),
            remedy="the training diverged: take an earlier checkpoint, or train with a lower learning rate",
        )


def _listed(kind: str, keys: Sequence[str]) -> list[str]:
    lines = [f"{kind}: {key}" for key in keys[:SHOWN]]
    return [*lines, f"{kind}: and {len(keys) - SHOWN} more"] if len(keys) > SHOWN else lines
