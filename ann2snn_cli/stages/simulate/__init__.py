"""Simulate: run a SPIKING graph. `reference.py` is the plain engine that every other one must equal."""

from ann2snn_cli.stages.simulate.reference import Simulation as Simulation
from ann2snn_cli.stages.simulate.reference import simulate as simulate
