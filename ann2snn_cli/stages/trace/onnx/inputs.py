"""What the network is given: the shape of a sample, and which axis is the batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnx import TensorProto, ValueInfoProto

from ann2snn_cli.errors import Setting, UnsupportedNetwork
from ann2snn_cli.ir.ops import Input
from ann2snn_cli.stages.trace.onnx.constants import ANY_BATCH
from ann2snn_cli.stages.trace.onnx.draft import OnnxDraft
from ann2snn_cli.stages.trace.onnx.file import OnnxFile
from ann2snn_cli.types import Shape

Sizes = tuple[int | None, ...]  # None where the file leaves a size open

_REAL = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16}


def bind(
    file: OnnxFile, draft: OnnxDraft, input_shapes: Sequence[Shape] | Mapping[str, Shape] | None
) -> None:
    """Begin the draft with the inputs. The first axis is the batch, of an open or a fixed length."""
    infos, given = file.inputs, _by_name(file, input_shapes)
    sizes = [_sizes(file, info, given.get(info.name)) for info in infos]
    draft.batch = _batch(file, sizes)
    for info, declared in zip(infos, sizes, strict=True):
        shape = _sample_shape(file, info.name, declared, given.get(info.name))
        draft.names[info.name] = draft.add(Input(), (), shape, info.name, info.name)
        kind = info.type.tensor_type.elem_type
        if kind not in _REAL:
            draft.notes.append(
                f"its input {info.name} is declared as {TensorProto.DataType.Name(kind).lower()}; "
                "samples are passed on as the dataset gives them, in real numbers"
            )


def _by_name(
    file: OnnxFile, input_shapes: Sequence[Shape] | Mapping[str, Shape] | None
) -> Mapping[str, Shape]:
    """The shapes of the samples by input; none where none are given."""
    names = [info.name for info in file.inputs]
    if input_shapes is None:
        return {}
    if len(names) != len(input_shapes):
        raise UnsupportedNetwork(
            f"it takes {len(names)} inputs ({', '.join(names)}), there are samples for {len(input_shapes)}",
            where=str(file.path),
            remedy="export a network with as many inputs as a sample has parts",
        )
    if not isinstance(input_shapes, Mapping):
        return dict(zip(names, input_shapes, strict=True))
    if set(input_shapes) != set(names):
        raise UnsupportedNetwork(
            f"it takes the inputs {', '.join(names)}, there are samples for {', '.join(input_shapes)}",
            where=str(file.path),
            remedy="give samples by these names, or in the order of the inputs",
        )
    return input_shapes


def _sizes(file: OnnxFile, info: ValueInfoProto, given: Shape | None) -> Sizes:
    """The sizes that the file declares, the batch first."""
    kind = info.type.tensor_type
    if kind.HasField("shape"):
        return tuple(each.dim_value if each.dim_value > 0 else None for each in kind.shape.dim)
    if given is None:
        raise _open(file, info.name)
    return (None,) * (1 + len(given))


def _batch(file: OnnxFile, sizes: Sequence[Sizes]) -> int:
    lengths = {each[0] if each else None for each in sizes}
    if len(lengths) > 1:
        raise UnsupportedNetwork(
            "its inputs have batches of different lengths",
            where=str(file.path),
            remedy="export it with the same batch axis in every input",
        )
    return lengths.pop() or ANY_BATCH


def _sample_shape(file: OnnxFile, name: str, declared: Sizes, given: Shape | None) -> Shape:
    sample = declared[1:]
    if not sample:
        raise UnsupportedNetwork(
            f"its input {name} has no axes but a batch's",
            where=str(file.path),
            remedy="export it for a batch of samples: [batch, channels, height, width]",
        )
    if given is None:
        if None in sample:
            raise _open(file, name)
        return tuple(size for size in sample if size is not None)
    fits = len(sample) == len(given) and all(size in (None, n) for size, n in zip(sample, given, strict=True))
    if not fits:
        shown = ", ".join("any" if size is None else str(size) for size in sample)
        raise UnsupportedNetwork(
            f"its input {name} takes samples of shape ({shown}), the data has {tuple(given)}",
            where=str(file.path),
            remedy=f"choose the dataset that it was trained on ({Setting('dataset')}), or export it for such "
            "samples, with the batch as the first axis and the channels as the second",
        )
    return tuple(given)


def _open(file: OnnxFile, name: str) -> UnsupportedNetwork:
    return UnsupportedNetwork(
        f"its input {name} leaves more sizes open than the batch",
        where=str(file.path),
        remedy="give the shape of a sample, or export it with fixed sizes",
    )
