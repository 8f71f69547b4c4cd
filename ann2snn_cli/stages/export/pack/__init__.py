"""The vector pack: what a chip team needs to replay a network (docs/vector-pack.md)."""

from ann2snn_cli.stages.export.pack.describe import describe as describe
from ann2snn_cli.stages.export.pack.describe import refuse as refuse
from ann2snn_cli.stages.export.pack.samples import Absent as Absent
from ann2snn_cli.stages.export.pack.samples import Sample as Sample
from ann2snn_cli.stages.export.pack.samples import corner_samples as corner_samples
from ann2snn_cli.stages.export.pack.write import Extent as Extent
from ann2snn_cli.stages.export.pack.write import Recording as Recording
from ann2snn_cli.stages.export.pack.write import refuse_in_the_way as refuse_in_the_way
from ann2snn_cli.stages.export.pack.write import write as write
