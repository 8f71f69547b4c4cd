"""The numbers that the step graph is written in: floats that hold integers exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from ann2snn_cli.twins.onnx.arithmetic import geometry, spread_conv
from ann2snn_cli.twins.onnx.builder import Builder, Value
from ann2snn_cli.twins.replay import Array, Layer


class Floats:
    """float32 throughout: exact while every number and every sum on the way stays below 2^24."""

    kind: type[np.generic] = np.float32
    element: int = TensorProto.FLOAT
    spike: int = TensorProto.FLOAT
    lowest: int = -(2**24)

    def conv(self, model: Builder, x: Value, weight: Array, attributes: dict[str, Any]) -> str:
        """Conv."""
        return model.node("Conv", x.name, _float(model, weight), **attributes)

    def conv_transpose(self, model: Builder, x: Value, weight: Array, layer: Layer) -> str:
        """ConvTranspose; with groups only if depthwise, for onnx.reference is wrong about others."""
        if layer["groups"] > 1 and weight.shape[:2] != (layer["groups"], 1):
            return spread_conv(self, model, x, weight, layer)
        attributes = {**geometry(layer), "output_padding": layer["output_padding"]}
        return model.node("ConvTranspose", x.name, _float(model, weight), **attributes)

    def linear(self, model: Builder, x: Value, weight: Array) -> str:
        """MatMul."""
        return model.node("MatMul", x.name, _float(model, weight.T))


def _float(model: Builder, weight: Array) -> str:
    return model.constant(weight.astype(np.float32), "weight")
