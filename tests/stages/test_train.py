"""Training the float network: it learns, repeats itself, tells how it goes, and stops when it diverges."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from ann2snn_cli.config.recipes import Optimizer
from ann2snn_cli.errors import BadData, UsageError
from ann2snn_cli.stages.train import measure, train
from ann2snn_cli.tasks import task_named

TASK = task_named("classification")

GENERATOR = torch.Generator().manual_seed(0)
X = torch.rand(64, 1, 4, 4, generator=GENERATOR)
Y = (X[:, 0, :2].mean((1, 2)) > X[:, 0, 2:].mean((1, 2))).long()  # is the upper half the brighter one?


@pytest.fixture(autouse=True)
def one_thread():
    """Small tensors: on a busy machine, threads waiting for each other take most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def batches(epoch):
    """The samples in batches of 16, the same each epoch."""
    return zip(X.split(16), Y.split(16), strict=True)


def build():
    """A small network that draws random numbers while it trains."""
    torch.manual_seed(1)
    layers = (
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.2),
        nn.Linear(16, 2),
    )
    return nn.Sequential(*layers)


def run(network, epochs=3, lr=0.01, seed=0, progress=None, batches=batches, loss=TASK.loss, **options):
    """Train on the CPU."""
    return train(
        network, batches, loss=loss, metric=TASK.metric, epochs=epochs, lr=lr, weight_decay=0.01, seed=seed,
        device="cpu", progress=progress, **options,
    )  # fmt: skip


def accuracy(network, batches):
    """What the metric of classification says first."""
    return measure(network, batches, TASK.metric(), "cpu")["accuracy"]


def weights(network):
    """All weights as one vector."""
    return nn.utils.parameters_to_vector(network.parameters()).detach()


def test_it_learns():
    """After training the samples are classified, and the loss has fallen."""
    network = build()
    history = run(network, epochs=40)

    assert history[-1].loss < 0.3 * history[0].loss
    assert accuracy(network, batches(0)) > 0.95


def test_same_seed_same_weights():
    """Two runs with a seed agree to the last bit; another seed drops out other values."""
    networks = [build() for _ in range(3)]
    for network, seed in zip(networks, (0, 0, 1), strict=True):
        run(network, seed=seed)

    assert torch.equal(weights(networks[0]), weights(networks[1]))
    assert not torch.equal(weights(networks[0]), weights(networks[2]))


def test_callers_random_state_is_left_alone():
    """Training neither reads nor changes the global generator."""
    network = build()
    torch.manual_seed(7)
    before = torch.get_rng_state()

    run(network)

    assert torch.equal(torch.get_rng_state(), before)


def test_it_ends_in_eval_mode():
    """The network is ready to be used and saved."""
    network = build().eval()
    run(network)

    assert not network.training


def test_progress_is_told_batch_by_batch():
    """Each batch is reported, then the epoch as done; the history holds the latter."""
    seen = []
    history = run(build(), epochs=2, progress=seen.append)

    assert [(state.epoch, state.samples, state.done) for state in seen[:5]] == [
        (1, 16, False),
        (1, 32, False),
        (1, 48, False),
        (1, 64, False),
        (1, 64, True),
    ]
    assert history == [state for state in seen if state.done]
    assert [state.epochs for state in seen] == [2] * 10
    assert [bool(state.results) for state in seen[:5]] == [False] * 4 + [True]
    assert all(0 <= state.results["accuracy"] <= 1 for state in history)


def test_reported_loss_and_accuracy_are_means():
    """A rate of nearly nothing leaves the network as it is: the report is what it does on the samples."""
    network = build()[3:4].append(nn.Linear(16, 2))
    expected = float(nn.functional.cross_entropy(network(X), Y).detach())

    (epoch,) = run(network, epochs=1, lr=1e-12)

    assert epoch.loss == pytest.approx(expected, rel=1e-5)
    assert epoch.results["loss"] == pytest.approx(expected, rel=1e-5)
    assert epoch.results["accuracy"] == accuracy(network, batches(0))


def test_rate_falls_along_half_a_cosine():
    """The rate starts at lr and falls epoch by epoch, and the weights move accordingly."""
    network, positions = build(), []

    def watched(epoch):
        positions.append(weights(network).clone())
        return batches(epoch)

    rates = [state.lr for state in run(network, epochs=4, lr=0.1, batches=watched)]
    positions.append(weights(network))
    moves = [float((after - before).abs().mean()) for before, after in pairwise(positions)]

    assert rates == pytest.approx([0.1, 0.0853553, 0.05, 0.0146447], rel=1e-5)
    assert moves[3] < 0.2 * moves[0]


def test_rate_of_sgd_rises_and_falls_step_by_step():
    """In a straight line to the top in a tenth of all steps, then half a cosine to nearly nothing."""
    seen = []

    class Watched(torch.optim.SGD):
        def step(self, closure=None):
            seen.append(self.param_groups[0]["lr"])
            super().step()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim, "SGD", Watched)
        run(build(), epochs=10, lr=0.2, optimizer=Optimizer.SGD, samples=64)

    assert len(seen) == 40
    assert seen[:5] == pytest.approx([0.002, 0.0515, 0.101, 0.1505, 0.2])
    assert seen[22] == pytest.approx(0.1)  # half way between the 4th and the 40th
    assert seen[4:] == sorted(seen[4:], reverse=True)
    assert 0 < seen[-1] < 0.001


def test_one_step_of_sgd_is_torchs_own():
    """Nesterov's momentum, weight decay, and the smallest rate of the rise."""
    network, expected = (build()[3:4].append(nn.Linear(16, 2)) for _ in range(2))
    expected.load_state_dict(network.state_dict())
    optimizer = torch.optim.SGD(
        expected.parameters(), lr=0.001, momentum=0.9, weight_decay=0.01, nesterov=True
    )
    nn.functional.cross_entropy(expected(X[:16]), Y[:16]).backward()
    optimizer.step()

    first = [next(iter(batches(0)))]
    run(network, epochs=1, lr=0.1, optimizer=Optimizer.SGD, samples=16, batches=lambda epoch: first)

    assert torch.allclose(weights(network), weights(expected), rtol=0, atol=1e-7)


def test_bfloat16_trains_float32_weights():
    """It learns as well; what comes out is float32 in torch's usual order, and not what float32 gives."""
    networks = [build(), build()]
    for network, bf16 in zip(networks, (True, False), strict=True):
        run(network, epochs=40, bf16=bf16)
    state = networks[0].state_dict()

    assert accuracy(networks[0], batches(0)) > 0.95
    assert {values.dtype for values in state.values()} == {torch.float32, torch.int64}
    assert all(values.is_contiguous() for values in state.values())
    assert not torch.equal(weights(networks[0]), weights(networks[1]))


def test_every_epoch_asks_for_its_own_batches():
    """`batches` is called with 0, 1, 2, ...: orders and augmentation differ between epochs."""
    asked = []
    run(build(), batches=lambda epoch: asked.append(epoch) or batches(epoch))

    assert asked == [0, 1, 2]


def test_divergence_is_an_error():
    """A loss that is no number stops the training with a remedy."""
    with pytest.raises(UsageError, match="training diverged") as caught:
        run(build()[3:4].append(nn.Linear(16, 2)), lr=1e30, epochs=5)
    assert "lower learning rate" in caught.value.remedy


class Two(nn.Module):
    """Two inputs of one shape, each with weights of its own: exchanged, they give other scores."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.left, self.right = nn.Linear(8, 2), nn.Linear(8, 2)

    def forward(self, upper, lower):
        return self.left(upper.flatten(1)) - self.right(lower.flatten(1))


def two_inputs(form):
    """The halves of each image as two inputs: a tuple, or a dict in another order than forward's."""

    def give(epoch):
        for x, y in batches(epoch):
            upper, lower = x[:, 0, :2], x[:, 0, 2:]
            yield (upper, lower) if form == "tuple" else {"lower": lower, "upper": upper}, y

    return give


@pytest.mark.parametrize("form", ["tuple", "dict"])
def test_several_inputs_reach_the_arguments_they_belong_to(form):
    """One step of AdamW on one batch is torch's own, called by hand with both inputs."""
    network, expected = Two(), Two()
    x, y = X[:16], Y[:16]
    optimizer = torch.optim.AdamW(expected.parameters(), lr=0.01, weight_decay=0.01)
    nn.functional.cross_entropy(expected(x[:, 0, :2], lower=x[:, 0, 2:]), y).backward()
    optimizer.step()

    run(network, epochs=1, batches=lambda epoch: [next(two_inputs(form)(epoch))])

    assert torch.equal(weights(network), weights(expected))
    given = measure(network, two_inputs(form)(0), TASK.metric(), "cpu")
    scores = expected(X[:, 0, :2], X[:, 0, 2:]).detach()
    assert given["accuracy"] == float((scores.argmax(1) == Y).double().mean())
    assert given["loss"] == pytest.approx(float(nn.functional.cross_entropy(scores, Y)), rel=1e-6)


def test_all_outputs_are_in_the_loss():
    """A network that gives a tuple, with a dict in it: the loss is handed every tensor, in order."""
    seen = []

    class Heads(nn.Linear):
        def forward(self, x):
            y = super().forward(x.flatten(1))
            return y, {"half": y / 2, "double": y * 2}

    def loss(outputs, labels):
        seen.append(outputs)
        return sum(nn.functional.cross_entropy(output, labels) for output in outputs)

    run(Heads(16, 2), epochs=1, loss=loss)

    assert all(torch.equal(a, 2 * b) and torch.equal(c, 2 * a) for a, b, c in seen)


def test_measure_counts():
    """The fraction of samples whose highest score is at their label; the network's mode stays as it was."""
    network = nn.Flatten()
    network.train()
    x = torch.eye(4)[[0, 1, 2, 2]]
    given = accuracy(network, [(x[:3], torch.tensor([0, 1, 3])), (x[3:], torch.tensor([2]))])

    assert given == 0.75
    assert network.training


def test_measuring_uses_eval_mode():
    """Batch norm and dropout are at rest while a network is measured."""
    network = build()
    before = {key: value.clone() for key, value in network.state_dict().items()}

    assert accuracy(network, batches(0)) == accuracy(network, batches(0))
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in before.items())


def test_measuring_nothing_is_refused():
    """Without a sample there is no accuracy."""
    with pytest.raises(BadData, match="no sample"):
        accuracy(nn.Identity(), [])
