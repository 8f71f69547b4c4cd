"""A small U-Net (transposed convolution, concatenated skips) for segmentation: scores at each pixel."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

DATASET = ""


def unit(channels: int, out_channels: int) -> nn.Sequential:
    """3x3 convolution, batch norm, ReLU."""
    conv = nn.Conv2d(channels, out_channels, 3, padding=1, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, norm=nn.BatchNorm2d(out_channels), relu=nn.ReLU()))


def widen(channels: int, out_channels: int, height: int, width: int) -> nn.Sequential:
    """Transposed convolution that undoes a pooling of a `height` x `width` map, odd sides too; ReLU."""
    odd = (height % 2, width % 2)
    conv = nn.ConvTranspose2d(channels, out_channels, 2, stride=2, output_padding=odd)
    return nn.Sequential(OrderedDict(conv=conv, relu=nn.ReLU()))


class UNet(nn.Module):
    """Two steps down, two steps up, and a 1x1 convolution."""

    def __init__(self, channels: int, height: int, width: int, classes: int) -> None:
        super().__init__()
        self.down1 = unit(channels, 8)
        self.down2 = unit(8, 16)
        self.bottom = unit(16, 32)
        self.up2 = widen(32, 16, height // 2, width // 2)
        self.join2 = unit(32, 16)
        self.up1 = widen(16, 8, height, width)
        self.join1 = unit(16, 8)
        self.pool = nn.AvgPool2d(2)
        self.head = nn.Conv2d(8, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.down1(x)
        coarse = self.down2(self.pool(fine))
        bottom = self.bottom(self.pool(coarse))
        coarse = self.join2(torch.cat([self.up2(bottom), coarse], dim=1))
        return self.head(self.join1(torch.cat([self.up1(coarse), fine], dim=1)))


def build(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """The network for images of `input_shape` (channels, height, width), at least 4x4."""
    channels, height, width = input_shape
    if min(height, width) < 4:
        raise ValueError(f"unet_segment needs images of at least 4x4, got {height}x{width}")
    return UNet(channels, height, width, classes)
