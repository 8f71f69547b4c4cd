"""Readers of resizing: to the nearest value a move, else torch's interpolation where that is the same."""

from __future__ import annotations

import numpy as np

from ann2snn_cli.stages.trace.onnx.as_torch import as_torch
from ann2snn_cli.stages.trace.onnx.draft import Call, OnnxDraft, Reader, Reading, Refused
from ann2snn_cli.stages.trace.onnx.moves import move

_LINEAR = {1: "linear1d", 2: "bilinear2d", 3: "trilinear3d"}
_KINDS = {"linear": _LINEAR, "cubic": {2: "bicubic2d"}}  # torch's, by mode and by how many axes
_TORCHS_CUBIC = -0.75  # the coefficient that torch computes with, and ONNX's default


def _resize(draft: OnnxDraft, call: Call) -> Reading:
    mode = call.attributes.get("mode", "nearest")
    if mode == "nearest":
        return move(draft, call)
    spatial = len(draft.shape_of(call)) - 1
    kind = _KINDS.get(mode, {}).get(spatial)
    how = call.attributes.get("coordinate_transformation_mode", "half_pixel")
    if kind is None or how not in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        raise Refused(f"mode {mode} with {how} over {spatial} axes is not what torch computes")
    if call.attributes.get("cubic_coeff_a", _TORCHS_CUBIC) != _TORCHS_CUBIC or any(
        call.attributes.get(name, 0) for name in ("antialias", "exclude_outside")
    ):
        raise Refused("it is cubic with other weights than torch's, or smoothed")
    size, scales = _extent(draft, call, spatial)
    arguments = {"input": draft.number(call), "output_size": size, "scale_factors": scales}
    target, aligned = f"aten.upsample_{kind}.vec", how == "align_corners"
    reading = as_torch(draft, call, target, align_corners=aligned, **arguments)
    if how == "pytorch_half_pixel" and 1 in (reading.shape or ())[1:]:
        raise Refused("pytorch_half_pixel reads the first value for an axis of 1, and torch the middle")
    return reading


def _extent(draft: OnnxDraft, call: Call, spatial: int) -> tuple[list[int] | None, list[float] | None]:
    """The sizes or the scales of the spatial axes; whichever the file gives."""
    if "axes" in call.attributes:
        if [int(axis) % (spatial + 2) for axis in call.attributes["axes"]] != list(range(2, spatial + 2)):
            raise Refused("it resizes other axes than the spatial ones")
        skip = 0
    else:
        skip = 2
    sizes = draft.optional(call, 3)
    if sizes is not None and sizes.size:
        return [int(n) for n in np.ravel(sizes)[skip:]], None
    scales = np.ravel(draft.constant(call, 2 if len(call.proto.input) > 2 else 1))
    if skip and any(scale != 1 for scale in scales[:skip]):
        raise Refused("it resizes the batch or the channels")
    return None, [float(scale) for scale in scales[skip:]]


READERS: dict[str, Reader] = {"Resize": _resize}
