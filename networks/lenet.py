"""LeNet-5 with ReLU and max pooling (a small network with max pooling to try; the original averages)."""

from torch import Tensor, nn

DATASET = "digits"


class LeNet(nn.Module):
    """Two 5x5 convolutions and three linear layers."""

    def __init__(self, channels: int, height: int, width: int, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.pool = nn.MaxPool2d(2)
        self.relu = nn.ReLU()
        self.flatten = nn.Flatten()
        self.linear1 = nn.Linear(16 * side(height) * side(width), 120)
        self.linear2 = nn.Linear(120, 84)
        self.linear3 = nn.Linear(84, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.conv1(x)))
        x = self.pool(self.relu(self.conv2(x)))
        x = self.relu(self.linear1(self.flatten(x)))
        x = self.relu(self.linear2(x))
        return self.linear3(x)


def side(pixels: int) -> int:
    """What is left of a side of the image: pool, 5x5 without padding, pool."""
    return (pixels // 2 - 4) // 2


def build(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """The network for images of `input_shape` (channels, height, width), at least 12x12."""
    channels, height, width = input_shape
    if min(height, width) < 12:
        raise ValueError(f"lenet needs images of at least 12x12, got {height}x{width}")
    return LeNet(channels, height, width, classes)
