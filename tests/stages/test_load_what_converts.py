"""What `convert` makes can be loaded again; what mixes samples is refused before any work."""

import pytest
import torch
from torch import nn

import ann2snn_cli
from ann2snn_cli.errors import UnsupportedNetwork

pytestmark = pytest.mark.filterwarnings("ignore::ann2snn_cli.snn.DamageWarning")


class Recurrent(nn.Module):
    """The last step of a recurrent layer, and a read-out."""

    def __init__(self, kind, batch_first):
        super().__init__()
        self.batch_first = batch_first
        self.steps, self.out = kind(4, 6, batch_first=batch_first), nn.Linear(6, 2)

    def forward(self, x):
        steps, _ = self.steps(x if self.batch_first else x.transpose(0, 1))
        return self.out(torch.relu(steps[:, -1] if self.batch_first else steps[-1]))


class Attention(nn.Module):
    """An encoder layer of a transformer, and a read-out."""

    def __init__(self):
        super().__init__()
        self.layer, self.out = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), nn.Linear(4, 2)

    def forward(self, x):
        return self.out(torch.relu(self.layer(x)).mean(1))


class Function(nn.Module):
    """A function behind a linear layer."""

    def __init__(self, function):
        super().__init__()
        self.linear, self.function = nn.Linear(4, 4), function

    def forward(self, x):
        return self.function(torch.relu(self.linear(x)))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Recurrent(nn.LSTM, True),
        lambda: Recurrent(nn.GRU, False),
        lambda: Recurrent(nn.RNN, False),
        Attention,
    ],
    ids=["LSTM", "GRU, steps first", "RNN, steps first", "transformer"],
)
def test_a_network_whose_layers_move_the_batch_can_be_loaded(make, tmp_path):
    """The loaded network gives what the saved one gives, whatever the number of samples."""
    torch.manual_seed(0)
    x = torch.rand(8, 5, 4)
    snn = ann2snn_cli.convert(make().eval(), x, timesteps=8)
    loaded = ann2snn_cli.load(snn.save(tmp_path / "snn.pth"))
    for samples in (x, x[:1]):
        assert torch.equal(loaded(samples), snn(samples))


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda y: y - y.mean(0), "it moves values between samples"),
        (lambda y: y / (1 + y.max()), "it moves values between samples"),
        (lambda y: y.t(), "first axis is not that of the samples"),
        (lambda y: y.reshape(-1, 2), "first axis is not that of the samples"),
    ],
)
def test_a_network_that_mixes_samples_is_refused_before_work(function, said):
    """It is no network of single samples: `load` would refuse what became of it."""
    with pytest.raises(UnsupportedNetwork, match=said):
        ann2snn_cli.convert(Function(function).eval(), torch.rand(8, 4))
