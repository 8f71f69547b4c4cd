"""The list: networks and snippets, one row each, the same for every tool."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from parity_runners import networks as n
from parity_runners.networks import Written, chain, conv, tail

IMAGE, TOKENS = (3, 8, 8), (6, 16)
# How calibration samples are handed over: every tool gets this very object. "": what its documents ask for.
DATA = ("", "pairs", "tensors", "dicts", "dicts of others", "tensor", "dataset", "loader")
# What is done with the SNN before its answer is taken.
AFTER = ("", "again", "deepcopy", "state dict", "file", "after another batch size")


@dataclass(frozen=True)
class Row:
    """One network or snippet, and what it asks for beside being converted and run for T steps."""

    name: str
    build: Callable[[], nn.Module]
    shapes: tuple[tuple[int, ...], ...] = (IMAGE,)
    transformer: str = ""  # SpikingJelly's recipe for it: "td" or "sta"; ours is then method="td"
    mode: str | float = "max"  # the one mode that all tools have
    timesteps: int = 64
    bits: int = 8  # of ours; the others keep floats
    samples: int = 16  # at once
    data: str = ""
    after: str = ""
    is_training: bool = False  # the network is handed over in train() mode
    is_nonsense: bool = False  # must be refused


def shape(*sizes: int) -> dict[str, Any]:
    """One input of these sizes."""
    return {"shapes": (sizes,)}


def tokens(transformer: str = "td") -> dict[str, Any]:
    """One input of tokens, and SpikingJelly's recipe for it."""
    return {"shapes": (TOKENS,), "transformer": transformer}


def small() -> nn.Module:
    """What the snippets convert: convolution, batch norm, ReLU, pooling, twice."""
    return chain(
        conv(), nn.BatchNorm2d(8), nn.ReLU(), nn.AvgPool2d(2), conv(8, 8), nn.ReLU(), features=8 * 16
    )


THEIRS = [
    Row("SpikingJelly: the CNN of the MNIST tutorial", n.tutorial_cnn, **shape(1, 28, 28)),
    Row("SpikingJelly: CIFAR-10 ResNet-18 (an eighth as wide)", n.resnet18, **shape(3, 32, 32)),
    Row("SpikingJelly: torchvision's ViT (small)", n.vision_transformer, ((3, 16, 16),), "sta"),
    Row("SpikingJelly: BERT-like layer, attention written out",
        lambda: n.of_tokens(n.Block(n.Attention())), **tokens()),
    Row("Matterhorn: MLP of the README",
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.ReLU()), **shape(1, 28, 28)),
    Row("Matterhorn: ResBlocks of the converter page",
        lambda: nn.Sequential(n.ResBlock(1, 8), n.ResBlock(8, 16)), **shape(1, 8, 8)),
    Row("Matterhorn: the same written w + z, its counterexample",
        lambda: nn.Sequential(n.ResBlock(1, 8, True), n.ResBlock(8, 16, True)), **shape(1, 8, 8)),
]  # fmt: skip

MODES = [
    Row(f"tutorial CNN, mode {mode}", n.tutorial_cnn, **shape(1, 28, 28), mode=value, is_nonsense="a reason" in mode)
    for mode, value in {
        '"max"': "max", '"Max"': "Max", '"99.9%"': "99.9%", '"99%"': "99%", "1/2": 1 / 2, "1/3": 1 / 3,
        "1/4": 1 / 4, "1/5": 1 / 5, '"nonsense" (a reason is due)': "nonsense", "1.5 (a reason is due)": 1.5,
    }.items()
]  # fmt: skip

ACTIVATIONS = [
    Row("nn.ReLU", lambda: chain(conv(), nn.ReLU())),
    Row("F.relu", lambda: Written(lambda s, x: s.last(F.relu(s.b(F.relu(s.a(x))))),
                                  a=conv(), b=conv(8, 8), last=tail())),
    Row("torch.relu", lambda: Written(lambda s, x: s.last(torch.relu(s.b(torch.relu(s.a(x))))),
                                      a=conv(), b=conv(8, 8), last=tail())),
    Row("x.relu_()", lambda: Written(lambda s, x: s.last(s.b(s.a(x).relu_()).relu_()),
                                     a=conv(), b=conv(8, 8), last=tail())),
    Row("torch.clamp(x, min=0)", lambda: Written(lambda s, x: s.last(s.b(s.a(x).clamp(min=0)).clamp(min=0)),
                                                 a=conv(), b=conv(8, 8), last=tail())),
    Row("nn.ReLU(inplace=True)", lambda: chain(conv(), nn.ReLU(True), conv(8, 8), nn.ReLU(True))),
    Row("one nn.ReLU used twice", lambda: Written(lambda s, x: s.last(s.relu(s.b(s.relu(s.a(x))))),
                                                  a=conv(), b=conv(8, 8), relu=nn.ReLU(), last=tail())),
    Row("one conv and ReLU used twice", lambda: Written(lambda s, x: s.last(s.block(s.block(s.first(x)))),
        first=conv(), block=nn.Sequential(conv(8, 8), nn.ReLU()), last=tail())),
    Row("nn.ReLU6", lambda: chain(conv(), nn.ReLU6(), conv(8, 8), nn.ReLU6())),
    Row("nn.Hardtanh(0, 1)", lambda: chain(conv(), nn.Hardtanh(0, 1), conv(8, 8), nn.ReLU())),
    Row("nn.LeakyReLU(0.1)", lambda: chain(conv(), nn.LeakyReLU(0.1), conv(8, 8), nn.ReLU())),
    Row("nn.PReLU", lambda: chain(conv(), nn.PReLU(), conv(8, 8), nn.ReLU())),
    Row("nn.ELU", lambda: chain(conv(), nn.ELU(), conv(8, 8), nn.ReLU())),
    Row("nn.SiLU", lambda: chain(conv(), nn.SiLU(), conv(8, 8), nn.ReLU())),
    Row("nn.Sigmoid", lambda: chain(conv(), nn.Sigmoid(), conv(8, 8), nn.ReLU())),
    Row("nn.GELU between ReLUs", lambda: chain(conv(), nn.ReLU(), conv(8, 8), nn.GELU(), conv(8, 8), nn.ReLU())),
    Row("nn.Softmax at the end", lambda: nn.Sequential(small(), nn.Softmax(1))),
    Row("ends in ReLU", lambda: nn.Sequential(small(), nn.ReLU())),
    Row("ReLU of the input first of all", lambda: chain(nn.ReLU(), conv(), nn.ReLU())),
]  # fmt: skip

LAYERS = [
    Row("batch norm 1d", lambda: nn.Sequential(nn.Linear(16, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10)),
        **shape(16)),
    Row("batch norm 2d, convolution without bias", lambda: chain(conv(bias=False), nn.BatchNorm2d(8), nn.ReLU())),
    Row("Conv3d with batch norm 3d", lambda: chain(nn.Conv3d(2, 4, 3, padding=1), nn.BatchNorm3d(4), nn.ReLU(),
                                                   features=4 * 64), **shape(2, 4, 4, 4)),
    Row("Conv1d with batch norm 1d", lambda: chain(nn.Conv1d(3, 8, 3, padding=1), nn.BatchNorm1d(8), nn.ReLU(),
                                                   nn.Conv1d(8, 8, 3, 2), nn.ReLU(), features=56), **shape(3, 16)),
    Row("batch norm before the convolution", lambda: chain(nn.BatchNorm2d(3), conv(), nn.ReLU(), nn.BatchNorm2d(8),
                                                           conv(8, 8), nn.ReLU())),
    Row("batch norm after the ReLU", lambda: chain(conv(), nn.ReLU(), nn.BatchNorm2d(8), conv(8, 8), nn.ReLU())),
    Row("batch norm after a concat", lambda: Written(
        lambda s, x: s.last(s.relu(s.bn(torch.cat([s.a(x), s.b(x)], 1)))),
        a=conv(3, 4), b=conv(3, 4), bn=nn.BatchNorm2d(8), relu=nn.ReLU(), last=tail())),
    Row("batch norm without affine", lambda: chain(conv(), nn.BatchNorm2d(8, affine=False), nn.ReLU())),
    Row("grouped convolution", lambda: chain(conv(), nn.ReLU(), conv(8, 8, groups=2), nn.ReLU())),
    Row("depthwise and pointwise", lambda: chain(conv(), nn.ReLU(), conv(8, 8, groups=8), nn.BatchNorm2d(8),
                                                 nn.ReLU(), nn.Conv2d(8, 8, 1), nn.ReLU())),
    Row("dilated, strided", lambda: chain(conv(), nn.ReLU(), conv(8, 8, padding=2, dilation=2, stride=2), nn.ReLU(),
                                          features=8 * 16)),
    Row('padding="same", padding_mode="reflect"', lambda: chain(conv(padding="same"), nn.ReLU(),
                                                                conv(8, 8, padding_mode="reflect"), nn.ReLU())),
    Row("transposed convolution", lambda: chain(conv(), nn.ReLU(), nn.ConvTranspose2d(8, 4, 2, 2), nn.ReLU(),
                                                features=4 * 256)),
    Row("max pooling", lambda: chain(conv(), nn.ReLU(), nn.MaxPool2d(2), conv(8, 8), nn.ReLU(), nn.MaxPool2d(2),
                                     features=8 * 4)),
    Row("max pooling before the ReLU", lambda: chain(conv(), nn.MaxPool2d(2), nn.ReLU(), features=8 * 16)),
    Row("average pooling", lambda: chain(conv(), nn.ReLU(), nn.AvgPool2d(3, 2, 1), conv(8, 8), nn.ReLU(),
                                         features=8 * 16)),
    Row("adaptive average pooling", lambda: chain(conv(), nn.ReLU(), nn.AdaptiveAvgPool2d(1), features=8)),
    Row("x.mean((2, 3))", lambda: Written(lambda s, x: s.last(s.relu(s.a(x)).mean((2, 3))),
                                          a=conv(), relu=nn.ReLU(), last=nn.Linear(8, 10))),
    Row("upsampling", lambda: chain(conv(), nn.ReLU(), nn.Upsample(scale_factor=2), conv(8, 2), nn.ReLU(),
                                    features=2 * 256)),
    Row("zero padding as a layer", lambda: chain(nn.ZeroPad2d(1), conv(padding=0), nn.ReLU())),
    Row("dropout", lambda: chain(conv(), nn.ReLU(), nn.Dropout2d(0.2), nn.Flatten(), nn.Dropout(0.5))),
    Row("linear layers without ReLU between", lambda: chain(conv(), nn.ReLU(), conv(8, 4), conv(4, 8), nn.ReLU())),
    Row("weight_norm of torch", lambda: chain(nn.utils.parametrizations.weight_norm(conv()), nn.ReLU())),
    Row("LSTM", lambda: Written(lambda s, x: s.last(s.lstm(x)[0].flatten(1)),
                                lstm=nn.LSTM(16, 8, batch_first=True), last=nn.Linear(48, 10)), **shape(*TOKENS)),
]  # fmt: skip

SHAPES = [
    Row("x += y", lambda: Written(lambda s, x: s.last(s.relu2(_plus(s.relu1(s.a(x)), s.b(x)))),
                                  a=conv(), b=conv(), relu1=nn.ReLU(), relu2=nn.ReLU(), last=tail())),
    Row("residual block, identity", lambda: chain(conv(3, 8), nn.ReLU(), n.BasicBlock(8, 8))),
    Row("residual block, stride 2", lambda: chain(n.BasicBlock(3, 8, 2), n.BasicBlock(8, 8), features=8 * 16)),
    Row("residual sum without a ReLU after it", lambda: Written(
        lambda s, x: s.last(s.relu1(s.a(x)) + s.relu2(s.b(x))),
        a=conv(), b=conv(), relu1=nn.ReLU(), relu2=nn.ReLU(), last=tail())),
    Row("2 * x + 0.5, a - b", lambda: Written(lambda s, x: s.last(s.relu(2 * s.a(x) + 0.5 - s.b(x))),
                                              a=conv(), b=conv(), relu=nn.ReLU(), last=tail())),
    Row("torch.cat", lambda: Written(lambda s, x: s.last(torch.cat([s.relu1(s.a(x)), s.relu2(s.b(x))], 1)),
                                     a=conv(3, 4), b=conv(3, 4), relu1=nn.ReLU(), relu2=nn.ReLU(), last=tail())),
    Row("torch.cat of branches of different unit", lambda: Written(
        lambda s, x: s.last(s.relu2(s.c(torch.cat([s.relu1(s.a(x)), 100 * s.b(x)], 1)))),
        a=conv(3, 4), b=conv(3, 4), c=conv(8, 8), relu1=nn.ReLU(), relu2=nn.ReLU(), last=tail())),
    Row("U-Net", n.UNet),
    Row("U-Net whose way up has no ReLU", lambda: n.UNet(raw_skip=True)),
    Row("view, permute", lambda: Written(
        lambda s, x: s.last(s.relu(s.a(x)).permute(0, 2, 3, 1).reshape(x.shape[0], -1)),
        a=conv(), relu=nn.ReLU(), last=nn.Linear(512, 10))),
    Row("x.view(x.size(0), -1)", lambda: Written(lambda s, x: s.last(s.relu(s.a(x)).view(x.size(0), -1)),
                                                 a=conv(), relu=nn.ReLU(), last=nn.Linear(512, 10))),
    Row("torch.flatten(x, 1)", lambda: Written(lambda s, x: s.last(torch.flatten(s.relu(s.a(x)), 1)),
                                               a=conv(), relu=nn.ReLU(), last=nn.Linear(512, 10))),
    Row("chunk and slices", lambda: Written(
        lambda s, x: s.last(torch.cat([part[:, :, 1:] for part in s.relu(s.a(x)).chunk(2, 1)], 1)),
        a=conv(), relu=nn.ReLU(), last=tail(8 * 56))),
    Row("channel shuffle", lambda: Written(
        lambda s, x: s.last(s.relu(s.a(x)).view(x.shape[0], 2, 4, 8, 8).transpose(1, 2).flatten(1, 2)),
        a=conv(), relu=nn.ReLU(), last=tail())),
    Row("ReLU in Sequentials in a ModuleList", n.Loop),
    Row("a condition on the shape", lambda: Written(lambda s, x: s.last(s.relu(s.a(x if x.shape[1] == 3 else -x))),
                                                    a=conv(), relu=nn.ReLU(), last=tail())),
    Row("two inputs", n.TwoInputs, (IMAGE, (5,))),
    Row("two outputs, a tuple", lambda: Written(lambda s, x: (s.one(s.relu(s.a(x))), s.two(s.relu(s.a(x)))),
                                                a=conv(), relu=nn.ReLU(), one=tail(), two=tail())),
    Row("two outputs, a dict", lambda: Written(lambda s, x: {"one": s.one(s.a(x)), "two": s.two(s.a(x))},
                                               a=nn.Sequential(conv(), nn.ReLU()), one=tail(), two=tail())),
]  # fmt: skip

TRANSFORMERS = [
    Row("GELU", lambda: n.of_tokens(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16)), **tokens()),
    Row("LayerNorm", lambda: n.of_tokens(nn.LayerNorm(16), nn.Linear(16, 16)), **tokens()),
    Row("MultiheadAttention", lambda: n.of_tokens(n.SelfAttention()), **tokens()),
    Row("MultiheadAttention, need_weights=True (the default)", lambda: n.of_tokens(n.SelfAttention(need_weights=True)),
        **tokens()),
    Row("scaled_dot_product_attention", lambda: n.of_tokens(n.Attention(fused=True)), **tokens()),
    Row("transformer block", lambda: n.of_tokens(n.Block(n.SelfAttention())), **tokens()),
    Row("nn.TransformerEncoderLayer, GELU", lambda: n.of_tokens(
        nn.TransformerEncoderLayer(16, 2, 32, 0.0, "gelu", batch_first=True)), **tokens()),
    Row("nn.TransformerEncoderLayer, ReLU, norm first", lambda: n.of_tokens(
        nn.TransformerEncoderLayer(16, 2, 32, 0.0, "relu", batch_first=True, norm_first=True)), **tokens()),
    Row("torchvision's ViT, ReLU recipe", n.vision_transformer, ((3, 16, 16),)),
    Row("transformer block, ReLU recipe", lambda: n.of_tokens(n.Block(n.SelfAttention())), **shape(*TOKENS)),
]  # fmt: skip

SNIPPETS = [
    Row("data: a list of (x, labels)", small, data="pairs"),
    Row("data: a list of tensors", small, data="tensors"),
    Row('data: a list of dicts {"image", "label"}', small, data="dicts"),
    Row('data: a list of dicts {"img", "target", "name"}', small, data="dicts of others"),
    Row("data: one tensor x", small, data="tensor"),
    Row("data: a TensorDataset", small, data="dataset"),
    Row("data: a DataLoader", small, data="loader"),
    Row("batch size 1", small, samples=1),
    Row("run on another batch size than before", small, after="after another batch size"),
    Row("run twice: the same answer", small, after="again"),
    Row("the network is in train() mode", lambda: nn.Sequential(small(), nn.Dropout(0.5)), is_training=True),
    Row("T = 1", small, timesteps=1),
    Row("T = 4", small, timesteps=4),
    Row("weights of one bit", n.of_one_bit, bits=1),
    Row("copy.deepcopy of the SNN", small, after="deepcopy"),
    Row("state_dict into an SNN of other weights", small, after="state dict"),
    Row("saved, and loaded again", small, after="file"),
]

GROUPS = {
    "Examples of their own documents": THEIRS,
    "Modes, as each spells them": MODES,
    "Activations": ACTIVATIONS,
    "Layers": LAYERS,
    "What forward() does": SHAPES,
    "Transformers": TRANSFORMERS,
    "Data, and what is done with the SNN": SNIPPETS,
}
ROWS = {row.name: row for group in GROUPS.values() for row in group}


def _plus(x: Any, y: Any) -> Any:
    x += y
    return x
