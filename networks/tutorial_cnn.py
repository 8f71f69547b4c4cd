"""The MNIST CNN of SpikingJelly's ann2snn tutorial: its layers, its names of weights, its last ReLU.

Three times 3x3 convolution (32), batch norm (eps 1e-3), ReLU, average pooling; then a linear layer and a
ReLU, so the answer of its SNN is how often each of the last neurons fired.
"""

from torch import Tensor, nn

DATASET = "digits"
BLOCKS = 3


class TutorialCnn(nn.Module):
    """One sequence, called `network` as in the tutorial: a checkpoint of that one fits."""

    def __init__(self, channels: int, height: int, width: int, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(BLOCKS):
            layers += [nn.Conv2d(channels, 32, 3), nn.BatchNorm2d(32, eps=1e-3), nn.ReLU(), nn.AvgPool2d(2)]
            channels, height, width = 32, (height - 2) // 2, (width - 2) // 2  # 28: 26 13 11 5 3 1
        last = nn.Linear(channels * height * width, classes)
        nn.init.ones_(last.bias)  # a class that the last ReLU cuts off for all samples would never learn
        layers += [nn.Flatten(), last, nn.ReLU()]
        self.network = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)


def build(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """The network for images of `input_shape` (channels, height, width), at least 22x22."""
    channels, height, width = input_shape
    if min(height, width) < 22:
        raise ValueError(f"tutorial_cnn needs images of at least 22x22, got {height}x{width}")
    return TutorialCnn(channels, height, width, classes)
