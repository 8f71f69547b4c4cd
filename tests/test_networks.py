"""The bundled networks: they build for any dataset, and the debug networks give their golden values."""

import ast
from pathlib import Path

import pytest
import torch
from few_digits import load as load_few_digits

import ann2snn_cli
from ann2snn_cli import catalog

ROOT = Path(__file__).parents[1]
NAMES = [entry.name for entry in catalog.list_networks() if entry.origin == "bundled"]
DEBUG = [name for name in NAMES if name.startswith("debug")]
MAPS = ["unet_segment", "detect_small"]  # a map of scores
CLASSIFIERS = [name for name in NAMES if name not in DEBUG + MAPS]
KINDS_OF_LAYERS = {
    "example_net": {"Conv2d", "ReLU", "AvgPool2d", "Flatten", "Linear"},
    "mnist_cnn": {"Conv2d", "BatchNorm2d", "ReLU", "AvgPool2d", "Flatten", "Linear"},
    "tutorial_cnn": {"Sequential", "Conv2d", "BatchNorm2d", "ReLU", "AvgPool2d", "Flatten", "Linear"},
}


def build(name, input_shape, classes=10):
    """A bundled network in eval mode."""
    return catalog.network(name).build(input_shape, classes).eval()


def test_all_are_there():
    """The networks that the documentation names are bundled."""
    named = {"example_net", "mnist_cnn", "lenet", "vgg11", "vgg16", "resnet18", "resnet20"}
    named |= {
        "mobilenet_small",
        "tutorial_cnn",
        "unet_small",
        "unet_segment",
        "detect_small",
        "vit_small",
        "debug_net0",
        "debug_net1",
        "debug_net2",
        "debug_net3",
    }

    assert set(NAMES) == named


@pytest.mark.parametrize("input_shape", [(1, 28, 28), (3, 32, 32), (3, 29, 35)])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_gives_one_score_a_class(name, input_shape):
    """A network serves any dataset: grey or colour, square or not, odd sides, any number of classes."""
    network = build(name, input_shape, classes=7)

    with torch.no_grad():
        scores = network(torch.rand(2, *input_shape))

    assert scores.shape == (2, 7)


@pytest.mark.parametrize("input_shape", [(1, 28, 28), (3, 29, 35)])
def test_a_segmenter_gives_one_score_a_class_at_each_pixel(input_shape):
    """A map as large as the image, odd sides too."""
    assert build("unet_segment", input_shape, 5)(torch.rand(2, *input_shape)).shape == (
        2,
        5,
        *input_shape[1:],
    )


@pytest.mark.parametrize("input_shape", [(1, 28, 28), (3, 32, 32)])
@pytest.mark.parametrize("name", DEBUG)
def test_debug_networks_take_images(name, input_shape):
    """A2: The debug networks build for images, too; their output is a map."""
    assert build(name, input_shape)(torch.rand(2, *input_shape)).dim() == 4


@pytest.mark.parametrize(
    ("name", "side", "golden"),
    [
        ("debug_net0", 4, [6.0] * 9 + [22.0] * 9),
        ("debug_net1", 4, [2790.0, 7326.0, 11862.0]),
        ("debug_net3", 1, [1.0]),
    ],
)
def test_golden_values(name, side, golden):
    """A2: Ones give exactly the published outputs."""
    assert build(name, (1, side, side), 1)(torch.ones(1, 1, side, side)).flatten().tolist() == golden


def test_golden_values_of_debug_net2():
    """Pooled twos, ramps and padding: the 27 outputs, worked out by hand as sums of whole numbers."""
    second = [sum(range(8)), sum(range(8, 16))]  # a 2x2 ramp over two channels of ones
    golden = []
    for out_channel in range(3):
        for row in range(3):
            for column in range(3):
                taps = [
                    (i, j)
                    for i in range(3)
                    for j in range(3)
                    if 0 <= row + i - 1 < 3 and 0 <= column + j - 1 < 3
                ]
                golden.append(
                    sum((18 * out_channel + 9 * c + 3 * i + j) * second[c] for c in range(2) for i, j in taps)
                )

    given = build("debug_net2", (1, 8, 8), 1)(torch.ones(1, 1, 8, 8)).flatten().tolist()

    assert given == golden
    assert (min(given), max(given), len(given)) == (4272, 50652, 27)


def test_debug_networks_need_no_checkpoint():
    """The debug networks say that their weights are final, and which sample is theirs."""
    datasets = {name: catalog.network(name).dataset for name in DEBUG if catalog.network(name).trained}

    assert datasets == dict(zip(DEBUG, ("debug0", "debug0", "debug1", "debug2"), strict=True))


@pytest.mark.parametrize("name", DEBUG)
def test_debug_networks_have_no_biases(name):
    """A debug network is its weights: a bias would change the golden values."""
    assert not [key for key in build(name, (1, 8, 8)).state_dict() if not key.endswith("weight")]


def test_example_net_fits_hardware_v1_at_four_bits():
    """The example's convolutions are 3x3 with at most 28 input channels, and each ends in a ReLU."""
    spec = catalog.network("example_net")
    network = spec.build((3, 32, 32), 10)
    layers = list(network.children())
    convolutions = [index for index, layer in enumerate(layers) if isinstance(layer, torch.nn.Conv2d)]

    assert (spec.dataset, spec.hardware) == ("digits", "v1")
    assert [layers[index].out_channels for index in convolutions] == [8, 16, 28]
    assert all(layers[index].kernel_size == (3, 3) for index in convolutions)
    assert all(layers[index].in_channels <= 28 for index in convolutions)
    assert all(isinstance(layers[index + 1], torch.nn.ReLU) for index in convolutions)


@pytest.mark.parametrize("name", sorted(KINDS_OF_LAYERS))
def test_kinds_of_layers(name):
    """The first two networks a user meets hold nothing but what their description says."""
    modules = list(build(name, (1, 28, 28)).modules())[1:]

    assert {type(module).__name__ for module in modules} == KINDS_OF_LAYERS[name]


def test_resnet20_has_the_public_names():
    """The names and shapes are those of the public CIFAR-10 checkpoint, so that it loads as it is."""
    shapes = {key: tuple(value.shape) for key, value in build("resnet20", (3, 32, 32)).state_dict().items()}
    shapes = {key: shape for key, shape in shapes.items() if "num_batches" not in key}

    assert len(shapes) == 97
    assert shapes["conv1.weight"] == (16, 3, 3, 3)
    assert shapes["bn1.running_mean"] == (16,)
    assert shapes["layer1.0.conv1.weight"] == (16, 16, 3, 3)
    assert shapes["layer2.0.conv1.weight"] == (32, 16, 3, 3)
    assert shapes["layer3.2.bn2.bias"] == (64,)
    assert shapes["linear.weight"] == (10, 64)
    assert not [key for key in shapes if "shortcut" in key or "downsample" in key]


def test_tutorial_cnn_is_that_of_the_tutorial():
    """(B5) Sides of 28, 26, 13, 11, 5, 3, 1, weights by the names of the tutorial, a ReLU at the end."""
    network = build("tutorial_cnn", (1, 28, 28))
    sides, x = [28], torch.rand(2, 1, 28, 28)
    for layer in network.network:
        x = layer(x)
        if isinstance(layer, torch.nn.Conv2d | torch.nn.AvgPool2d):
            sides.append(x.shape[-1])
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}

    assert sides == [28, 26, 13, 11, 5, 3, 1]
    assert shapes["network.0.weight"] == (32, 1, 3, 3)
    assert shapes["network.4.weight"] == shapes["network.8.weight"] == (32, 32, 3, 3)
    assert shapes["network.13.weight"] == (10, 32)
    assert [network.network[index].eps for index in (1, 5, 9)] == [1e-3] * 3
    assert isinstance(network.network[-1], torch.nn.ReLU)


def test_the_answer_of_tutorial_cnn_is_how_often_its_last_neurons_fire():
    """(B5) A network that ends in a ReLU is read by the counts of its last population, spike by spike."""
    network, digits = build("tutorial_cnn", (1, 28, 28)), load_few_digits().test
    network.load_state_dict(torch.load(ROOT / "checkpoints" / "tutorial_cnn-digits.pth")["state_dict"])
    snn = ann2snn_cli.convert(network, digits.x, timesteps=16, weight_bitwidth=8)
    portions = []
    found = snn.simulate(digits.x, watch=lambda node, activity: portions.append((node, activity.train)))
    last = torch.cat([train.double() for node, train in portions if node.name == portions[-1][0].name], dim=1)
    counts, answers = last.sum(0), found.outputs[0]

    assert last.shape == (16, 45, 10)
    assert set(last.unique().tolist()) == {0, 1}
    assert torch.allclose(answers, counts * (answers.max() / counts.max()))
    assert (counts.argmax(1) == digits.labels).double().mean() > 0.9


def test_unet_concatenates_two_ways():
    """In unet_small the fine map comes by the skip: it is there when nothing comes from below."""
    network = build("unet_small", (1, 28, 28))
    with torch.no_grad():
        for parameter in network.up1.parameters():
            parameter.zero_()
        one, other = network(torch.rand(2, 1, 28, 28))

    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    ("name", "side", "least"),
    [
        ("mnist_cnn", 21, "22x22"),
        ("tutorial_cnn", 21, "22x22"),
        ("vit_small", 6, "7x7"),
        ("lenet", 11, "12x12"),
        ("unet_small", 3, "4x4"),
    ],
)
def test_too_small_an_image_is_refused(name, side, least):
    """A network that runs out of pixels says how many it needs."""
    with pytest.raises(Exception, match=f"at least {least}, got {side}x{side}"):
        build(name, (1, side, side))


@pytest.mark.parametrize("name", NAMES)
def test_is_plain_torch(name):
    """A network file imports torch (and the standard library), nothing of this tool."""
    path = Path(catalog.network(name).path_or_module)
    nodes = list(ast.walk(ast.parse(path.read_text())))
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "." for node in nodes if isinstance(node, ast.ImportFrom)}

    assert imported
    assert {module.partition(".")[0] for module in imported} <= {"torch", "collections"}
