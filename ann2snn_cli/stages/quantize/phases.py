"""How many bits weights have at each epoch of finetuning: few bits are reached by way of more."""

from __future__ import annotations

from dataclasses import dataclass

from ann2snn_cli.words import count_of

FEW = 2  # bits; more are learned as they are
WAY = (8, 4, 2)
SHARE = 0.4  # of all epochs, on the way


@dataclass(frozen=True)
class Phase:
    """Some epochs with weights of so many bits."""

    bits: int
    first: int  # epoch, from 0
    epochs: int


def phases(bits: int, epochs: int) -> tuple[Phase, ...]:
    """At 1 or 2 bits some with more, and the last with these; none where all epochs are alike.

    Those with more share two fifths of the epochs; where these are too few for all, 8 bits go first.
    """
    way = [each for each in WAY if bits < each] if bits <= FEW else []
    while way and int(SHARE * epochs / len(way)) == 0:
        way = way[1:]
    if not way:
        return ()
    each = int(SHARE * epochs / len(way))
    early = [Phase(wider, place * each, each) for place, wider in enumerate(way)]
    return (*early, Phase(bits, len(way) * each, epochs - len(way) * each))


def in_words(found: tuple[Phase, ...]) -> str:
    """Which epochs had how many bits."""
    *early, last = found
    way = " and ".join(filter(None, (", ".join(str(each.bits) for each in early[:-1]), str(early[-1].bits))))
    many = count_of(early[0].epochs, "epoch")
    each = f"{many} each at" if len(early) > 1 else f"{many} at"
    return f"finetuning: {each} {way} bits, then {last.epochs} at {count_of(last.bits, 'bit')}"
