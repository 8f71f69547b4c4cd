"""A vision transformer: patches of 7x7, a class token, three blocks of attention and GELU."""

import torch
from torch import nn

DATASET = "digits"
PATCH, WIDTH, HEADS, BLOCKS = 7, 40, 4, 3


class Block(nn.Module):
    """Attention, then a perceptron; each behind a layer norm, and added to what went in."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 3 * WIDTH), nn.GELU(), nn.Linear(3 * WIDTH, WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Give what went in, and what the two branches add to it."""
        seen = self.norm1(x)
        x = x + self.attention(seen, seen, seen, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]


class VisionTransformer(nn.Module):
    """Patches become tokens, what overhangs is left out; the class token in front of them tells the class."""

    def __init__(self, channels: int, patches: int, classes: int) -> None:
        super().__init__()
        self.patch = nn.Conv2d(channels, WIDTH, PATCH, stride=PATCH)
        self.class_token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.position = nn.Parameter(0.02 * torch.randn(1, 1 + patches, WIDTH))
        self.blocks = nn.Sequential(*(Block() for _ in range(BLOCKS)))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Give the scores of the classes."""
        tokens = self.patch(x).flatten(2).transpose(1, 2)  # [batch, patches, width]
        first = self.class_token.expand(x.shape[0], -1, -1)
        seen = self.blocks(torch.cat([first, tokens], dim=1) + self.position)
        return self.head(self.norm(seen)[:, 0])  # type: ignore[no-any-return]


def build(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """The network for images of `input_shape` (channels, height, width), at least 7x7."""
    channels, height, width = input_shape
    if min(height, width) < PATCH:
        raise ValueError(f"vit_small needs images of at least {PATCH}x{PATCH}, got {height}x{width}")
    return VisionTransformer(channels, (height // PATCH) * (width // PATCH), classes)
