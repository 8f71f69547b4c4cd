"""The Verilog twin: reference modules of every kind of layer, and a generated bench that replays a pack.

    neuron.v            integrate, compare, reset: the module to read first
    conv.v linear.v sum_pool.v max_pool.v add.v scale.v gather.v readout.v stimulus.v
    scoreboard.v result.v    the comparing half of the bench
    bench.py parts.py   write bench.v from the manifest: instances, wires, turns, files
    run.py cost.py      build and run it with Icarus Verilog or Verilator

A program that does not build, run or report as it should is a raised `Damaged`.
"""

from ann2snn_cli.twins.verilog.cost import cycles as cycles
from ann2snn_cli.twins.verilog.run import sources as sources
from ann2snn_cli.twins.verilog.run import unavailable as unavailable
from ann2snn_cli.twins.verilog.run import verify as verify
from ann2snn_cli.twins.verilog.run import version as version
