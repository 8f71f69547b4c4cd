"""What is done with vector packs beside replaying them: where two differ, and how good one is.

    diff.py     two packs, or a pack and what a simulator wrote
    faults.py   mutants of the network, which of them a pack notices, which neurons its samples exercise

What reads a pack and compares is `twins/replay.py`, for a copy of it lies in every pack. Nothing here imports
anything of ours but that.
"""
