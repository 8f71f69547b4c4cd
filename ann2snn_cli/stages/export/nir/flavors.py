"""What each reader of NIR needs in the file: one row a flavor, a fact a field.

The facts were found by running the readers (`docs/nir.md` has the versions and the figures).
"""

from __future__ import annotations

from dataclasses import dataclass

from ann2snn_cli.ir.contract import Contract, Reset

COMMON = frozenset({"Conv2d", "Affine", "Flatten", "IF"})  # what every reader takes
_NIR = COMMON | {"Conv1d", "I", "Scale", "SumPool2d"}


@dataclass(frozen=True)
class Flavor:
    """How a file must be written for a reader, and how that reader's IF fires and resets."""

    text: str  # one line for a user
    nodes: frozenset[str]  # the NIR nodes that may stand in the file
    compares: str = ">"  # when the reader's IF fires: V > v_threshold, or ">="
    resets: str = "either"  # a spike sets V to a "value", subtracts the "threshold", or "either" by reader
    resistance: float = 1.0  # r of every IF: 1/dt of the reader
    current: bool = True  # v_reset and metadata, which came with nir 1.0.6
    uniform: bool = False  # one threshold a population
    rounds: bool = False  # its pooling divides and multiplies again, and knows no padding
    joins: bool = True  # what follows a sum runs after all of its branches
    reader: str = "nirtorch"  # who replays it
    known: tuple[tuple[str, str, str], ...] = ()  # what the reader itself loses: (what, effect, remedy)

    @property
    def composite(self) -> bool:
        """Are neurons made of I, Threshold and Scale?"""
        return "Threshold" in self.nodes

    def half_below(self, contract: Contract) -> bool:
        """Is v_threshold θ − 1/2? Then V > v_threshold is V ≥ θ for integers.

        Not where a reader may subtract v_threshold: what it subtracts must be θ.
        """
        never_subtracts = self.resets == "value" or contract.reset_mode is Reset.ZERO
        return self.compares == ">" and self.resets != "threshold" and never_subtracts

    def keeps_ties(self, contract: Contract) -> bool:
        """Does a neuron with V = θ fire?"""
        return self.compares == ">=" or self.half_below(contract)

    def keeps_reset(self, contract: Contract) -> bool:
        """Does a spike do to V what the contract says? (NIR itself says "value" since 1.0.6.)"""
        return self.resets == ("threshold" if contract.reset_mode is Reset.SUBTRACTION else "value") or (
            self.resets == "either" and contract.reset_mode is Reset.ZERO
        )


TABLE: dict[str, Flavor] = {
    "plain": Flavor("what the nodes of NIR say as they are documented: IF resets to a value", _NIR),
    "composite": Flavor(
        "exact: neurons made of I, Threshold and Scale with feedback; no simulator imports it by itself",
        _NIR | {"Threshold"},
    ),
    "nir1.0.4": Flavor(
        "plain for readers with nir 1.0.4 or older: no v_reset, no metadata; IF subtracts its threshold",
        _NIR,
        resets="threshold",
        current=False,
    ),
    "sinabs": Flavor(
        "for sinabs 2.0.3 and 3.1.3: as nir1.0.4, without I and Scale",
        COMMON | {"SumPool2d"},
        compares=">=",
        resets="threshold",
        current=False,
        rounds=True,
        joins=False,
        reader="sinabs",
        known=(
            (
                "one spike a step at most",
                "sinabs fires several spikes in one step where V reaches a multiple of the threshold",
                "after from_nir set spike_fn = sinabs.activation.SingleSpike on every IAFSqueeze",
            ),
            (
                "potentials below -threshold",
                "sinabs cuts them off there",
                "after from_nir set min_v_mem = None on every IAFSqueeze",
            ),
        ),
    ),
    "spikingjelly": Flavor(
        "for SpikingJelly 2.0.0: r is 1/dt, sum pooling as a convolution, one threshold a population",
        COMMON | {"Conv1d"},
        compares=">=",
        resets="value",
        resistance=1e4,
        uniform=True,
        reader="spikingjelly",
    ),
    "snntorch": Flavor(
        "for snnTorch 1.0.0: one threshold a population, sum pooling as a convolution",
        COMMON | {"Conv1d"},
        resets="threshold",
        uniform=True,
        reader="snntorch",
        known=(
            (
                "neurons without a leak",
                "snnTorch 1.0.0 imports IF as Leaky with beta 0.9, and the import does not run: "
                "the neuron gives a tuple that the next layer refuses",
                "replace every Leaky by one with beta=1, init_hidden=True, reset_delay=True",
            ),
        ),
    ),
    "norse": Flavor(
        "for norse 1.1.0: thresholds of θ - 1/2, sum pooling as a convolution",
        COMMON,
        resets="value",
        joins=False,
        reader="norse",
    ),
}

FLAVORS: dict[str, str] = {name: flavor.text for name, flavor in TABLE.items()}
