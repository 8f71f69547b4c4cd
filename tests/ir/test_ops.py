"""What an op says of itself."""

import torch

from ann2snn_cli.ir.ops import AvgPool, Conv, Linear, Opaque, Relu, Scale, per_channel


def test_channels_and_kernel_of_a_convolution():
    """Groups and transposition are counted in."""
    plain = Conv(torch.zeros(6, 4, 3, 5))
    grouped = Conv(torch.zeros(6, 2, 3), groups=2)
    transposed = Conv(torch.zeros(4, 3, 2, 2), groups=2, transposed=True)

    assert [(op.in_channels, op.out_channels, op.kernel) for op in (plain, grouped, transposed)] == [
        (4, 6, (3, 5)),
        (4, 6, (3,)),
        (4, 6, (2, 2)),
    ]


def test_what_a_reader_sees():
    """The kind is the op's name; a transposed convolution and an opaque operator have their own."""
    weight = torch.zeros(1, 1, 1)

    assert Conv(weight).kind == "Conv"
    assert Conv(weight, transposed=True).kind == "ConvTranspose"
    assert Opaque("aten.gelu.default", ()).kind == "gelu"
    assert Relu().kind == "Relu"


def test_the_area_of_a_window():
    """The product of the kernel's extents."""
    assert AvgPool((2, 3, 4), (1, 1, 1), (0, 0, 0)).area == 24


def test_values_by_channel_broadcast_to_a_node():
    """Channels are first, but those of a linear layer last."""
    values = torch.arange(3)

    assert per_channel(values, Conv(torch.zeros(3, 1, 1, 1)), 3).shape == (3, 1, 1)
    assert per_channel(values, Scale(torch.zeros(3, 1)), 2).shape == (3, 1)
    assert per_channel(values, Linear(torch.zeros(3, 2)), 2).shape == (3,)
