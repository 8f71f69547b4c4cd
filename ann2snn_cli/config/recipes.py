"""The words for how a network is trained, and for how it is finetuned."""

from __future__ import annotations

from dataclasses import dataclass

from ann2snn_cli.ir.contract import Choice


class Optimizer(Choice):
    """How `train` moves weights: AdamW, or SGD with momentum and a rate that rises first."""

    ADAMW = "adamw"
    SGD = "sgd"


class Decay(Choice):
    """How the rate of finetuning falls: by steps of ten, or along half a cosine."""

    STEP = "step"
    COSINE = "cosine"


@dataclass(frozen=True)
class Rates:
    """What is usual with an optimizer."""

    lr: float
    wd: float


USUAL = {Optimizer.ADAMW: Rates(0.003, 0.01), Optimizer.SGD: Rates(0.1, 5e-4)}
