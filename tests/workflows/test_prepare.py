"""Prepare: what a use case works on, by name or given; what cannot be is refused before any work."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ann2snn_cli.config import Hardware, Settings, load_hardware, resolve
from ann2snn_cli.errors import UnsupportedNetwork, UsageError
from ann2snn_cli.ir.graph import Level
from ann2snn_cli.workflows import prepare

V1 = Path(__file__).parents[2] / "configs/hardware/v1.yaml"


def with_section(settings, section, **values):
    """The settings with some of a section changed."""
    return replace(settings, **{section: replace(getattr(settings, section), **values)})


def test_an_outline_needs_neither_weights_nor_data():
    """Shapes of a dataset known by name; the hardware is the network's own, else the default."""
    outline = prepare.outline(Settings(network="vgg16"), default_hardware="v1")
    assert (outline.name, outline.input_shapes, outline.hardware) == (
        "vgg16",
        ((3, 32, 32),),
        load_hardware(V1),
    )
    assert (outline.settings.data.dataset, outline.settings.check.hardware) == ("cifar10", "v1")
    assert prepare.outline(Settings(network="vgg16")).hardware is None
    assert outline.folded().level is Level.FOLDED


def test_by_name_everything_is_found_and_entered_into_the_settings():
    """Network, weights, data, hardware, device."""
    prepared = prepare.by_name(with_section(Settings(network="example_net"), "run", device="cpu"))
    assert (prepared.name, prepared.dataset, prepared.device) == (
        "example_net",
        "digits",
        torch.device("cpu"),
    )
    assert prepared.hardware.name == "v1"
    assert prepared.weights.file == "example_net-digits.pth"
    assert prepared.settings.data.dataset == "digits"
    assert not prepared.network.training


def test_given_objects_are_taken_as_they_are(small_network, small_data):
    """The network is not copied, moved or switched; hardware by name, path or value."""
    small_network.train()
    prepared = prepare.from_objects(small_network, small_data, Settings(), hardware="v1")
    assert prepared.network is small_network
    assert small_network.training
    assert prepared.hardware == load_hardware(V1)
    own = Hardware(name="mine")
    assert prepare.from_objects(small_network, small_data, Settings(), hardware=own).hardware is own
    assert prepare.from_objects(small_network, small_data, Settings()).hardware is None
    asked = with_section(Settings(), "check", hardware=str(V1))
    assert prepare.from_objects(small_network, small_data, asked).hardware == load_hardware(V1)


@pytest.mark.parametrize(
    ("section", "values", "said", "where"),
    [
        ("check", {"allow": ("nonsense",)}, "unknown hardware rule 'nonsense'", "allow"),
        ("run", {"engine": "fast"}, "unknown engine 'fast'", "engine"),
    ],
)
def test_names_that_do_not_exist_are_refused_from_both_sides(
    section, values, said, where, small_network, small_data
):
    """With all there are, and the setting that named them."""
    settings = with_section(Settings(network="example_net"), section, **values)
    for attempt in (
        lambda: prepare.by_name(settings),
        lambda: prepare.outline(settings),
        lambda: prepare.from_objects(small_network, small_data, replace(settings, network="")),
    ):
        with pytest.raises(UsageError) as refused:
            attempt()
        assert refused.value.what == said
        assert where in refused.value.where
        assert "choose from: " in refused.value.remedy


def test_the_shape_that_is_shown_is_that_of_the_input_or_of_all():
    """One shape; several in order, or by name."""
    assert prepare.shown_shape(((1, 2),)) == (1, 2)
    assert prepare.shown_shape(((1, 2), (3,))) == [(1, 2), (3,)]
    assert prepare.shown_shape({"a": (1, 2)}) == {"a": (1, 2)}


LAZY = """
from torch import nn

def build(input_shape, classes):
    return nn.Sequential(nn.Conv2d(1, 2, 3, stride=3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(classes))
"""


def test_lazy_layers_get_their_weights_where_a_network_is_built(tmp_path):
    """With no weights of its own, to be trained, and to be checked: the same network each time."""
    path = tmp_path / "lazy.py"
    path.write_text(LAZY)
    settings = resolve(None, [], {"network": str(path), "ann_weight": "none", "data.dataset": "digits"})

    built = [
        prepare.by_name(settings).network,
        prepare.by_name(settings, trained=False).network,
        prepare.outline(settings).network,
    ]

    first, *others = [network[3].weight.detach().cpu() for network in built]
    assert first.shape[0] == 10
    assert all(torch.equal(first, other) for other in others)


def test_a_lazy_network_that_does_not_run_is_refused_in_words(tmp_path):
    """The shape it was run on is named."""
    path = tmp_path / "lazy.py"
    path.write_text(LAZY.replace("Conv2d(1,", "Conv2d(5,"))
    settings = resolve(None, [], {"network": str(path), "ann_weight": "none", "data.dataset": "digits"})
    with pytest.raises(UnsupportedNetwork, match=r"lazy layers.*zeros of shape"):
        prepare.by_name(settings)
