"""The forms a network comes in: each is read and computes what torch computes, or is refused in words.

The network given is left as it was. The oracle is torch itself.
"""

import random
import warnings

import pytest
import torch
from torch import nn
from torch.ao import quantization
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

from ann2snn_cli import BadData, UnsupportedNetwork, UsageError, convert
from ann2snn_cli.ir.ops import Opaque, Relu
from ann2snn_cli.ir.run import run
from ann2snn_cli.stages.trace import trace

IMAGE, VECTOR, SEQUENCE = (2, 5, 5), (7,), (6, 4)


class Calls(nn.Module):
    """A network that is one function of its input, with the modules it calls."""

    def __init__(self, function, **modules):
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x):
        return self.function(self, x)


class CallsOnTwo(Calls):
    """The same with two inputs."""

    def forward(self, a, b):
        return self.function(self, a, b)


class TakesAll(nn.Module):
    """A wrapper of a user's own that hands on whatever it is given."""

    def __init__(self):
        super().__init__()
        self.inner = cnn()

    def forward(self, *args, **kwargs):
        return self.inner(*args, **kwargs)


class Counts(nn.Module):
    """It counts its calls in a buffer and in an attribute, and keeps what it saw."""

    def __init__(self):
        super().__init__()
        self.inner = cnn()
        self.register_buffer("calls", torch.zeros(()))
        self.times = 0

    def forward(self, x):
        self.calls += 1
        self.times += 1
        return self.inner(x)


def cnn():
    """Convolution, batch norm, ReLU, linear; the batch norm has statistics."""
    norm = nn.BatchNorm2d(3)
    norm.running_mean, norm.running_var = torch.rand(3), torch.rand(3) + 0.5
    return nn.Sequential(nn.Conv2d(2, 3, 3), norm, nn.ReLU(), nn.Flatten(), nn.Linear(27, 3))


def layers():
    """The same without batch norm."""
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(27, 3))


def changed(change, network=None):
    """The network after `change(network)`, whatever that gives."""
    network = network or cnn()
    change(network)
    return network


def trunk():
    """What two branches share."""
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten())


def siamese(join, width):
    """One trunk called twice, on each of two inputs."""
    return CallsOnTwo(
        lambda m, a, b: m.head(join(m.trunk(a), m.trunk(b))), trunk=trunk(), head=nn.Linear(width, 3)
    )


def tied():
    """Two layers of one weight."""
    first, second = nn.Linear(50, 50), nn.Linear(50, 50)
    second.weight = first.weight
    return nn.Sequential(nn.Flatten(), first, nn.ReLU(), second, nn.ReLU(), nn.Linear(50, 3))


def one_relu():
    """One module in place, called twice."""
    relu = nn.ReLU(inplace=True)
    return nn.Sequential(nn.Conv2d(2, 3, 3), relu, nn.Conv2d(3, 3, 3), relu, nn.Flatten(), nn.Linear(3, 3))


def hooked(network):
    """Hooks that change what layers take and give."""
    network[0].register_forward_hook(lambda module, args, output: output * 2)
    network[4].register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    network[2].register_full_backward_hook(lambda module, given, taken: None)


def of_lists():
    """Layers in a list and in a dict."""
    return Calls(
        lambda m, x: m.heads["out"](sum(torch.relu(each(x)) for each in m.stems).flatten(1)),
        stems=nn.ModuleList(nn.Conv2d(2, 3, 3) for _ in range(3)),
        heads=nn.ModuleDict({"out": nn.Linear(27, 3)}),
    )


def functional():
    """Functions in place of modules, one of them in place."""
    return Calls(
        lambda m, x: m.b(F.dropout(F.relu_(m.a(x.flatten(1))), training=m.training)),
        a=nn.Linear(50, 8), b=nn.Linear(8, 3),
    )  # fmt: skip


def half_inside():
    """Float outside, half within."""
    return Calls(
        lambda m, x: m.b(torch.relu(m.a(x.flatten(1).half()))).float(),
        a=nn.Linear(50, 8).half(), b=nn.Linear(8, 3).half(),
    )  # fmt: skip


def both_widths():
    """A layer in float, one in double."""
    return Calls(
        lambda m, x: m.b(torch.relu(m.a(x.flatten(1))).double()).float(),
        a=nn.Linear(50, 8), b=nn.Linear(8, 3).double(),
    )  # fmt: skip


def autocast():
    """Torch chooses bfloat16 as it goes."""

    def forward(m, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return m.inner(x)

    return Calls(forward, inner=cnn())


def recurrent(kind):
    """The last state of a recurrent layer."""
    return Calls(
        lambda m, x: m.head(torch.relu(m.cells(x)[0][:, -1])),
        cells=kind(4, 5, batch_first=True),
        head=nn.Linear(5, 3),
    )


def compiled(network):
    """Wrapped by torch.compile."""
    return torch.compile(network, backend="eager")


def exported(dynamic=True):
    """By torch.export."""
    sizes = ({0: torch.export.Dim.DYNAMIC},) if dynamic else None
    return torch.export.export(cnn().eval(), (torch.zeros(2, *IMAGE),), dynamic_shapes=sizes)


def distributed():
    """In a group of one process, which lives as long as the network is made."""
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        return nn.parallel.DistributedDataParallel(cnn())
    finally:
        torch.distributed.destroy_process_group()


def observed(prepare, training):
    """Prepared by torch for a quantization, and shown some samples."""
    network = nn.Sequential(quantization.QuantStub(), *layers(), quantization.DeQuantStub()).train(training)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        get = quantization.get_default_qat_qconfig if training else quantization.get_default_qconfig
        network.qconfig = get("fbgemm")
        network = prepare(network)
        network(torch.randn(8, *IMAGE))
    return network


def qat():
    """In quantization-aware training."""
    return observed(quantization.prepare_qat, training=True)


def calibrated():
    """With observers, before it is quantized."""
    return observed(quantization.prepare, training=False)


def quantized():
    """In integers of torch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return quantization.convert(calibrated())


def dynamically_quantized():
    """With integer weights of torch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return quantization.quantize_dynamic(nn.Sequential(nn.Flatten(), nn.Linear(50, 3)), {nn.Linear})


def scripted():
    """By torch.jit.script."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(cnn())


def script_inside():
    """With a part by torch.jit.script."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.Sequential(torch.jit.script(trunk()), nn.Linear(27, 3))


def on_meta():
    """Without values."""
    with torch.device("meta"):
        return cnn()


def of_tokens():
    """An embedding of numbers that forward() makes whole."""
    return Calls(
        lambda m, x: m.head(torch.relu(m.words(x.abs().long()).flatten(1))),
        words=nn.Embedding(9, 4), head=nn.Linear(28, 3),
    )  # fmt: skip


READ = {
    "as it is": (cnn, IMAGE),
    "half": (lambda: cnn().half(), IMAGE),
    "bfloat16": (lambda: cnn().bfloat16(), IMAGE),
    "double": (lambda: cnn().double(), IMAGE),
    "half inside": (half_inside, IMAGE),
    "float and double": (both_widths, IMAGE),
    "autocast": (autocast, IMAGE),
    "two inputs": (
        lambda: CallsOnTwo(
            lambda m, a, b: m.head(torch.cat([m.trunk(a), torch.relu(m.other(b))], 1)),
            trunk=trunk(), other=nn.Linear(7, 5), head=nn.Linear(32, 3),
        ),
        IMAGE, VECTOR,
    ),
    "siamese, joined": (lambda: siamese(lambda a, b: torch.cat([a, b], 1), 54), IMAGE, IMAGE),
    "siamese, difference": (lambda: siamese(lambda a, b: torch.relu(a - b), 27), IMAGE, IMAGE),
    "siamese, half": (lambda: siamese(lambda a, b: a + b, 27).half(), IMAGE, IMAGE),
    "exported": (exported, IMAGE),
    "exported module": (lambda: exported().module(), IMAGE),
    "fx": (lambda: torch.fx.symbolic_trace(cnn()), IMAGE),
    "compiled": (lambda: compiled(cnn()), IMAGE),
    "compiled in place": (lambda: changed(lambda network: network.compile(backend="eager")), IMAGE),
    "a part compiled": (lambda: changed(lambda network: network.__setitem__(0, compiled(network[0]))), IMAGE),
    "compiled DataParallel": (lambda: compiled(nn.DataParallel(cnn())), IMAGE),
    "DataParallel": (lambda: nn.DataParallel(cnn()), IMAGE),
    "DistributedDataParallel": (distributed, IMAGE),
    "averaged": (lambda: torch.optim.swa_utils.AveragedModel(cnn()), IMAGE),
    "any arguments": (TakesAll, IMAGE),
    "weight norm": (lambda: changed(lambda network: parametrizations.weight_norm(network[0])), IMAGE),
    "spectral norm": (lambda: changed(lambda network: parametrizations.spectral_norm(network[4])), IMAGE),
    "orthogonal": (lambda: changed(lambda network: parametrizations.orthogonal(network[4])), IMAGE),
    "pruned": (lambda: changed(lambda network: prune.l1_unstructured(network[0], "weight", 0.5)), IMAGE),
    "hooks": (lambda: changed(hooked), IMAGE),
    "tied weights": (tied, IMAGE),
    "in training": (lambda: cnn().train(), IMAGE),
    "channels last": (lambda: cnn().to(memory_format=torch.channels_last), IMAGE),
    "transposed weights": (
        lambda: changed(lambda network: setattr(network[4], "weight", nn.Parameter(torch.rand(27, 3).t()))),
        IMAGE,
    ),
    "no gradients": (lambda: cnn().requires_grad_(False), IMAGE),
    "one ReLU": (one_relu, IMAGE),
    "nested": (lambda: nn.Sequential(nn.Sequential(nn.Identity(), cnn()), nn.Identity()), IMAGE),
    "lists": (of_lists, IMAGE),
    "dropout": (lambda: nn.Sequential(nn.Dropout2d(), cnn(), nn.Dropout(inplace=True)), IMAGE),
    "functional": (functional, IMAGE),
    "counts its calls": (Counts, IMAGE),
    "no weights": (lambda: nn.Sequential(nn.Flatten(), nn.ReLU()), IMAGE),
    "observers": (calibrated, IMAGE),
    "LSTM": (lambda: recurrent(nn.LSTM), SEQUENCE),
    "tokens made whole": (of_tokens, VECTOR),
    "GRU": (lambda: recurrent(nn.GRU), SEQUENCE),
}  # fmt: skip

REFUSED = {
    "TorchScript": (scripted, "TorchScript", "before torch.jit.script", "RecursiveScriptModule"),
    "TorchScript inside": (script_inside, "TorchScript", "before torch.jit.script", "0 (Recursive"),
    "quantized": (quantized, "quantized by torch", "before torch.ao.quantization.convert", "0 (Quantize)"),
    "dynamically quantized": (dynamically_quantized, "quantized by torch", "quantize_dynamic", "1 (Linear)"),
    "lazy": (lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), "lazy", "network(x)", "1 (LazyLinear)"),
    "meta": (on_meta, "meta device", "load its weights", "0 (Conv2d)"),
    "exported for one batch": (lambda: exported(False), "batches of one size", "dynamic_shapes", "Graph"),
    "tokens": (
        lambda: nn.Sequential(nn.Embedding(9, 4), nn.Flatten()),
        "whole numbers", "behind the embedding", "0 (Embedding)",
    ),
    "random numbers": (
        lambda: Calls(lambda m, x: m.inner(x + torch.randn_like(x)), inner=cnn()),
        "random", "eval mode", "test_network_forms",
    ),
    "dropout that stays": (
        lambda: Calls(lambda m, x: m.inner(F.dropout(x)), inner=cnn()),
        "random", "training=self.training", "test_network_forms",
    ),
    "random numbers of Python": (
        lambda: Calls(lambda m, x: m.inner(x) * random.random(), inner=cnn()),
        "a second run", "random numbers", "Calls",
    ),
    "statistics of the batch": (
        lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, track_running_stats=False)),
        "statistics of the batch", "track_running_stats", "1",
    ),
    "wrong shape": (lambda: nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU()), "not run", "shape", "0 (Conv2d)"),
}  # fmt: skip


def made(make):
    """The network, the same each time."""
    torch.manual_seed(0)
    return make()


def samples_of(shapes):
    """Four samples of each input."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(4, *shape, generator=generator) for shape in shapes]


def eager(network, xs):
    """What torch gives, in eval mode, in the network's own type of numbers. It changes the network."""
    network = network.module() if isinstance(network, torch.export.ExportedProgram) else network
    for module in network.modules():
        module.training = False
        if isinstance(module, quantization.FakeQuantizeBase) and module.ch_axis < 0:
            module.disable_fake_quant()
    dtype = next((each.dtype for each in network.parameters()), torch.float32)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return network(*[x.to(dtype) for x in xs]).float()


def held(network):
    """All of it that a user could miss: values, types, modes, hooks, attributes."""
    if isinstance(network, torch.export.ExportedProgram):
        return {name: values.clone() for name, values in network.state_dict.items()}
    found = {
        name: values.clone()
        for name, values in network.state_dict().items()
        if isinstance(values, torch.Tensor)
    }
    for name, module in network.named_modules():
        attributes = {key: value for key, value in vars(module).items() if not key.startswith("_")}
        hooks = [
            len(value) for key, value in vars(module).items() if key.endswith("_hooks") and value is not None
        ]
        found[f"{name}:"] = (id(module), attributes, hooks, [key for key, _ in module.named_children()])
    return found


def check_unchanged(network, before):
    """Hold it against what it held before."""
    after = held(network)
    assert after.keys() == before.keys()
    for name, value in before.items():
        if isinstance(value, torch.Tensor):
            assert (after[name].dtype, after[name].device) == (value.dtype, value.device)
            assert value.is_meta or torch.equal(after[name], value)
        else:
            assert after[name] == value


@pytest.mark.parametrize("form", READ)
def test_a_form_that_is_read_gives_what_torch_gives(form):
    """The graph, run in float64, is the network; nothing of the network is changed."""
    make, *shapes = READ[form]
    network, xs = made(make), samples_of(shapes)
    expected, before = eager(made(make), xs), held(network)

    graph = trace(network, shapes)

    (result,) = run(graph, [x.double() for x in xs])
    narrow = any(word in form for word in ("half", "bfloat16", "autocast"))
    torch.testing.assert_close(
        result.float(), expected, atol=0.05 if narrow else 1e-4, rtol=0.02 if narrow else 1e-4
    )
    check_unchanged(network, before)


@pytest.mark.parametrize("form", REFUSED)
def test_a_form_that_is_not_read_is_refused_in_words(form):
    """What, where and the remedy; nothing of the network is changed."""
    make, what, remedy, where = REFUSED[form]
    network = make()
    before = held(network) if form not in ("lazy", "quantized", "dynamically quantized") else None

    with pytest.raises(UnsupportedNetwork) as caught:
        trace(network, [IMAGE])

    assert what in caught.value.what
    assert remedy in caught.value.remedy
    assert where in caught.value.where
    if before:
        check_unchanged(network, before)


@pytest.mark.parametrize("given", [nn.ReLU, lambda x: x, None, "network"])
def test_what_is_no_network_is_refused(given):
    """A class, a function, nothing, a name: not a module."""
    with pytest.raises(UsageError, match="not a torch"):
        convert(given, torch.rand(4, 3))


CONVERTED = ["half", "double", "siamese, difference", "compiled DataParallel", "exported", "LSTM"]


@pytest.mark.parametrize("form", CONVERTED)
def test_the_snn_of_a_form_follows_the_network(form):
    """Of 8 bits and many steps: near to what torch gives, and the same at a second run."""
    make, *shapes = READ[form]
    network, xs = made(make), samples_of(shapes)
    expected, before = eager(made(make), xs), held(network)

    snn = convert(
        network,
        dict(zip("ab", xs, strict=False)) if len(xs) > 1 else xs[0],
        timesteps=128,
        mode="max",
        weight_bitwidth=8,
    )

    found = snn.simulate(xs if len(xs) > 1 else xs[0], schedule="layerwise").outputs[0]
    assert float((found - expected).abs().max()) < 0.05 * float(expected.abs().max())
    assert torch.equal(found, snn.simulate(xs if len(xs) > 1 else xs[0], schedule="layerwise").outputs[0])
    check_unchanged(network, before)


def test_a_conversion_from_few_bits_is_said():
    """A line in the notes names the type."""
    snn = convert(cnn().half(), torch.rand(8, *IMAGE))
    assert any("float16" in line and "float32" in line for line in snn.provenance.notes)


@pytest.mark.parametrize(
    "wrap",
    [
        compiled,
        nn.DataParallel,
        lambda network: changed(lambda it: it.__setitem__(0, compiled(it[0])), network),
        lambda network: changed(lambda it: parametrizations.weight_norm(it[0]), network),
    ],
)
def test_names_are_those_of_the_network_inside(wrap):
    """Neither `module.` nor `_orig_mod.` nor an operator stands in a layer's name."""
    network = cnn()
    graph = trace(wrap(network), [IMAGE])
    assert [node.name for node in graph.nodes] == ["input", "0", "1", "2", "3", "4"]
    assert all(node.source == node.name for node in graph.nodes)


def test_batches_that_are_joined_are_refused():
    """One trunk over both inputs at once: no sample of an SNN is two samples."""
    network = CallsOnTwo(lambda m, a, b: torch.cat(m.trunk(torch.cat([a, b])).chunk(2), 1), trunk=trunk())
    with pytest.raises(UnsupportedNetwork, match="joined") as caught:
        trace(network, [IMAGE, IMAGE])
    assert "torch.cat([f(a), f(b)], 1)" in caught.value.remedy


def test_an_embedding_is_exact_in_front_of_an_snn():
    """Tokens that forward() makes whole reach it as they are; those of more than 8 bits are refused."""
    network = Calls(
        lambda m, x: m.head(torch.relu(m.words(x.long()).flatten(1))),
        words=nn.Embedding(500, 4), head=nn.Linear(12, 3),
    )  # fmt: skip
    tokens = torch.randint(0, 256, (40, 3), generator=torch.Generator().manual_seed(1)).float()
    snn = convert(network, tokens, timesteps=128, mode="max", weight_bitwidth=8)
    expected = network(tokens).detach()
    assert float((snn(tokens) - expected).abs().max()) < 0.05 * float(expected.abs().max())
    with pytest.raises(BadData, match="0 to 255"):
        convert(network, tokens + 200)


def test_fake_quantized_weights_are_kept_and_activations_are_left_out():
    """The weights are those that torch's fake quantization gives; the network stays free of opaque nodes."""
    network, xs = made(qat), samples_of([IMAGE])
    expected, before = eager(made(qat), xs), held(network)
    notes = []

    graph = trace(network, [IMAGE], note=notes.append)

    (result,) = run(graph, [x.double() for x in xs])
    torch.testing.assert_close(result.float(), expected, atol=1e-4, rtol=1e-4)
    assert not graph.of(Opaque)
    assert len(graph.of(Relu)) == 1
    assert "fake quantization" in notes[0]
    check_unchanged(network, before)


def test_a_users_random_state_stays_as_it_was():
    """Looking for random numbers draws none of the user's."""
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    with pytest.raises(UnsupportedNetwork):
        trace(Calls(lambda m, x: x + torch.randn_like(x)), [IMAGE])
    assert torch.equal(state, torch.random.get_rng_state())
