"""The networks of the list that are more than a line long: plain torch, no tool of any kind."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Written(nn.Module):
    """Layers by name, and how forward() uses them."""

    def __init__(self, how: Callable[[Any, Any], Any], **layers: nn.Module) -> None:
        super().__init__()
        self.how = how
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Any:
        return self.how(self, x)


class TwoInputs(nn.Module):
    """An image and a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu1 = nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()
        self.linear, self.relu2 = nn.Linear(5, 16), nn.ReLU()
        self.last = nn.Linear(8 * 64 + 16, 10)

    def forward(self, image: Tensor, vector: Tensor) -> Tensor:
        seen = self.relu1(self.conv(image)).flatten(1)
        return self.last(torch.cat([seen, self.relu2(self.linear(vector))], 1))


def conv(channels: int = 3, width: int = 8, **options: Any) -> nn.Conv2d:
    """A 3x3 convolution that keeps the size, unless told otherwise."""
    return nn.Conv2d(channels, width, 3, **{"padding": 1} | options)


def tail(features: int = 8 * 64, classes: int = 10) -> nn.Sequential:
    """What makes ten numbers of an image."""
    return nn.Sequential(nn.Flatten(), nn.Linear(features, classes))


def chain(*layers: nn.Module, features: int = 8 * 64) -> nn.Sequential:
    """Layers one after the other, and a linear one."""
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, 10))


# The examples of the tools' own documents ----------------------------------------------------------


def tutorial_cnn() -> nn.Module:
    """Three times convolution, batch norm, ReLU and average pooling: SpikingJelly's MNIST tutorial."""
    layers: list[nn.Module] = []
    for channels in (1, 32, 32):
        layers += [nn.Conv2d(channels, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.AvgPool2d(2, 2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32, 10))


class BasicBlock(nn.Module):
    """A residual block with `out += shortcut`, as in SpikingJelly's CIFAR-10 example."""

    def __init__(self, channels: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()
        self.shortcut = nn.Sequential()
        if stride > 1 or channels != width:
            skip = nn.Conv2d(channels, width, 1, stride, bias=False)
            self.shortcut = nn.Sequential(skip, nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        out += self.shortcut(x)
        return self.relu2(out)


def resnet18(widths: tuple[int, ...] = (8, 16, 32, 64)) -> nn.Module:
    """ResNet-18 for images of 32 x 32, an eighth as wide."""
    layers: list[nn.Module] = [conv(3, widths[0], bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()]
    channels = widths[0]
    for place, width in enumerate(widths):
        layers += [BasicBlock(channels, width, 2 if place else 1), BasicBlock(width, width)]
        channels = width
    return nn.Sequential(*layers, nn.AvgPool2d(4), nn.Flatten(), nn.Linear(channels, 10))


class Addition(nn.Module):
    """Matterhorn's documents ask for an addition as a module."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class ResBlock(nn.Module):
    """The residual block of Matterhorn's converter page; `as_operator`: what that page advises against."""

    def __init__(self, channels: int, width: int, as_operator: bool = False) -> None:
        super().__init__()
        self.conv1, self.bn1, self.relu1 = conv(channels, width), nn.BatchNorm2d(width), nn.ReLU()
        self.conv2, self.bn2, self.relu2 = conv(width, width), nn.BatchNorm2d(width), nn.ReLU()
        self.conv3 = nn.Conv2d(channels, width, 1)
        self.res = Addition()
        self.as_operator = as_operator

    def forward(self, x: Tensor) -> Tensor:
        w = self.conv3(x)
        z = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu2(w + z if self.as_operator else self.res(w, z))


# Transformers --------------------------------------------------------------------------------------


class Attention(nn.Module):
    """Attention written out, as the tools' own examples write it; `fused` calls torch's one function."""

    def __init__(self, width: int = 16, heads: int = 2, fused: bool = False) -> None:
        super().__init__()
        self.heads, self.fused = heads, fused
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.last = nn.Linear(width, width)

    def split(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], x.shape[1], self.heads, 8).permute(0, 2, 1, 3)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.split(self.query(x)), self.split(self.key(x)), self.split(self.value(x))
        if self.fused:
            seen = F.scaled_dot_product_attention(query, key, value)
        else:
            scores = torch.matmul(query, key.transpose(-1, -2)) / math.sqrt(8)
            seen = torch.matmul(torch.softmax(scores, dim=-1), value)
        return self.last(seen.permute(0, 2, 1, 3).reshape(x.shape[0], x.shape[1], 16))


class Block(nn.Module):
    """A pre-norm transformer block around an attention."""

    def __init__(self, attention: nn.Module, width: int = 16) -> None:
        super().__init__()
        self.norm1, self.norm2, self.attention = nn.LayerNorm(width), nn.LayerNorm(width), attention
        self.up, self.gelu, self.down = nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.down(self.gelu(self.up(self.norm2(x))))


class SelfAttention(nn.Module):
    """torch's own attention, of tokens among themselves."""

    def __init__(self, width: int = 16, need_weights: bool = False) -> None:
        super().__init__()
        self.mha, self.need_weights = nn.MultiheadAttention(width, 2, batch_first=True), need_weights

    def forward(self, x: Tensor) -> Tensor:
        return self.mha(x, x, x, need_weights=self.need_weights)[0]


def of_tokens(*blocks: nn.Module) -> nn.Module:
    """Blocks on [samples, 6, 16], and a linear layer."""
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(6 * 16, 10))


def vision_transformer() -> nn.Module:
    """torchvision's, small: SpikingJelly's ViT example; its head begins with zeros, which say nothing."""
    from torchvision.models import VisionTransformer

    sizes = {"image_size": 16, "patch_size": 4, "hidden_dim": 32, "mlp_dim": 64}
    network = VisionTransformer(num_layers=2, num_heads=2, num_classes=10, **sizes)
    nn.init.normal_(network.heads.head.weight, std=0.2)
    return network


# Written in other ways -----------------------------------------------------------------------------


class Loop(nn.Module):
    """ReLUs in Sequentials in a ModuleList."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(conv(width, 8), nn.BatchNorm2d(8), nn.ReLU()) for width in (3, 8, 8)
        )
        self.last = tail()

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.last(x)


class UNet(nn.Module):
    """Down, up and a concat; `raw_skip`: the way up has no ReLU, so the branches differ in unit."""

    def __init__(self, raw_skip: bool = False) -> None:
        super().__init__()
        self.down1, self.relu1, self.pool = conv(3, 8), nn.ReLU(), nn.MaxPool2d(2)
        self.down2, self.relu2 = conv(8, 16), nn.ReLU()
        self.up = nn.ConvTranspose2d(16, 8, 2, 2)
        self.relu3 = nn.Identity() if raw_skip else nn.ReLU()
        self.join, self.relu4, self.last = conv(16, 8), nn.ReLU(), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.relu1(self.down1(x))
        second = self.relu2(self.down2(self.pool(first)))
        return self.last(self.relu4(self.join(torch.cat([first, self.relu3(self.up(second))], 1))))


def of_one_bit() -> nn.Module:
    """A network whose weights are plus or minus one number a layer: one bit says all of them."""
    network = chain(conv(), nn.ReLU(), conv(8, 8), nn.ReLU())
    with torch.no_grad():
        for layer in network:
            if hasattr(layer, "weight"):
                layer.weight.copy_(layer.weight.sign() * layer.weight.abs().mean())
    return network
