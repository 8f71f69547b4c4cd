"""The rules that are built in, by torch operator; ONNX operators that mean the same are read by them too."""

from ann2snn_cli.ir.rules import Rule, merged
from ann2snn_cli.stages.trace import layers, moves, pools, rectifiers, resizing, sums

BUILT_IN: dict[str, Rule] = merged(
    layers.RULES, pools.RULES, rectifiers.RULES, resizing.RULES, sums.RULES, moves.RULES
)
