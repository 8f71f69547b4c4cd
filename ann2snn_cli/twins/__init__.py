"""Twins: independent implementations of the arithmetic, which read a vector pack and nothing else.

They share no code with the engine: no file here imports anything of ours but its neighbours (a test holds
that). What they read is described field by field in docs/vector-pack.md. A new one is a class that answers
what `Twin` asks, and its name in a call of `register`.
"""

from ann2snn_cli.twins.twin import PROGRAMS, TWINS, Program, Simulator, Twin, register

__all__ = ["PROGRAMS", "TWINS", "Program", "Simulator", "Twin", "register"]
