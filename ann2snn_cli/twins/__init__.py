"""Twins: independent implementations of the arithmetic, which read a vector pack and nothing else.

They share no code with the engine: no file here imports anything of ours but its neighbours (a test holds
that). What they read is described field by field in docs/vector-pack.md.
"""
