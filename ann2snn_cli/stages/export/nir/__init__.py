"""NIR out: what the Neuromorphic Intermediate Representation can say of a SPIKING graph, and what is lost.

    write(graph, path, flavor="composite")    the .nir file, and NAME.nir.loss.json beside it
    replay(path, graph, x)                    how an installed reader of NIR fires, beside the reference

Needs the `nir` extra. `docs/nir.md` says what each flavor keeps.
"""

from ann2snn_cli.stages.export.nir.flavors import FLAVORS
from ann2snn_cli.stages.export.nir.losses import NirLoss
from ann2snn_cli.stages.export.nir.replaying import Agreement, readers, replay
from ann2snn_cli.stages.export.nir.writing import drafted, write

__all__ = ["FLAVORS", "Agreement", "NirLoss", "drafted", "readers", "replay", "write"]
