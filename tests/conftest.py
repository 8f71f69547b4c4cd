"""The suite runs in several processes: each of them computes on one core, or they wait for one another."""

import os

import torch

if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)
