"""Some layers of a network become spiking, the rest stays; the training loop is the user's own.

t = SNNTransformer(network, ["backbone.*"], x, weight_bitwidth=4, timesteps=16)
for inputs, target in loader:
    loss = criterion(t(inputs), target)
    t.optimizer.zero_grad(); loss.backward(); t.optimizer.step()
mixed = t.generate_ann_snn()
t.save_snn("part")
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from ann2snn_cli.by_stage import FUSING, QUANTIZING, chosen_settings
from ann2snn_cli.config import Hardware
from ann2snn_cli.pipeline import Rules
from ann2snn_cli.workflows import prepare
from ann2snn_cli.workflows.partial import PartialNetwork

TRAINED_BY_THE_USER = {
    f"finetune.{name}" for name in ("epochs", "augment", "distill", "held_out", "schedule", "bf16", "on")
}
OF_A_PART = (QUANTIZING | FUSING | {"check.allow"}) - TRAINED_BY_THE_USER - {"timing.encoding"}


class SNNTransformer(PartialNetwork):
    """A network whose named layers run quantized: `t(inputs)` gives its outputs, with gradients.

    `layers` are names of submodules, or globs of them; bare functions between them belong to them. They are
    one piece: what leaves it does not come back. `data` to calibrate on are of every kind that `convert`
    takes, and flags are its flags. The rest runs in eval mode, always: dropout rests, and batch norms keep
    their statistics. The network that is given stays as it was: what is trained are copies, `t.parameters()`,
    by `t.optimizer` or one of the user's own.
    """

    def __init__(
        self,
        network: nn.Module,
        layers: Sequence[str],
        data: Any,
        *,
        hardware: Hardware | str | None = None,
        rules: Rules | str | None = None,
        **flags: Any,
    ) -> None:
        self._check_layers(layers)
        chosen = chosen_settings("SNNTransformer", flags, OF_A_PART, epochs=1)
        untrained = replace(chosen, finetune=replace(chosen.finetune, epochs=0))
        samples = prepare.collected(data, untrained)
        prepared = prepare.from_objects(network, samples, untrained, hardware=hardware, rules=rules)
        super().__init__(prepared, layers)
