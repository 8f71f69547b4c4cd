"""Damage: measured on calibration samples, and put into words where it is large."""

from types import SimpleNamespace

import pytest

from ann2snn_cli.config import Neurons, Settings
from ann2snn_cli.errors import spelled
from ann2snn_cli.stages.analyse.damage import Damage
from ann2snn_cli.tasks.classification import Classification
from ann2snn_cli.workflows import prepare
from ann2snn_cli.workflows.convert import cautions, converted
from ann2snn_cli.workflows.damage import facts, measured_line, off_by, warning


def test_more_bits_and_steps_do_less_damage(small_network, small_data, training_free):
    """The numbers follow what is known of the conversion, and the layer is named only where it is large."""
    found = []
    for bits, steps in ((8, 128), (3, 8), (1, 1)):
        settings = training_free(quantize={"weight_bitwidth": bits}, timing={"timesteps": steps})
        found.append(converted(prepare.from_objects(small_network, small_data, settings))[1])
    assert found[0].snn < found[1].snn < found[2].snn
    assert found[0].quantized < found[1].quantized < found[2].quantized
    assert [bool(each.layer) for each in found] == [each.is_large for each in found]
    assert not found[0].is_large
    assert found[2].is_large
    assert [each.weight_bits for each in found] == [8, 3, 1]
    assert not any(each.is_channel_wise for each in found)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Damage(0.1, 0.2), ""),
        (
            Damage(0.9, 0.4, "conv1", 0.5),
            "the outputs are off by 90 % of what varies between samples, first at conv1 (50 %): "
            "try a larger weight_bitwidth, channel_wise=True, more timesteps or another mode",
        ),
        (
            Damage(0.1, 0.4, "conv1", 0.3, in_time=True),
            "the outputs are off by 40 % of what varies between samples, first at conv1 (30 %): "
            "try a larger delay or more timesteps",
        ),
        (
            Damage(None, 0.4),
            "the outputs are off by 40 % of what varies between samples: "
            "try a larger weight_bitwidth, channel_wise=True, more timesteps or another mode",
        ),
        (
            Damage(None, 0.4, resets_to_zero=True),
            "the outputs are off by 40 % of what varies between samples: "
            "try reset_mode='subtraction', which keeps what a reset to zero throws away",
        ),
        (
            Damage(0.4, 0.4, has_float_weights=True),
            "the outputs are off by 40 % of what varies between samples: try more timesteps or another mode",
        ),
        (
            Damage(0.4, 0.4, weight_bits=8),
            "the outputs are off by 40 % of what varies between samples: "
            "try channel_wise=True, more timesteps or another mode",
        ),
        (
            Damage(0.4, 0.4, weight_bits=4, is_channel_wise=True),
            "the outputs are off by 40 % of what varies between samples: "
            "try a larger weight_bitwidth, more timesteps or another mode",
        ),
        (
            Damage(0.1, float("inf"), "conv1", float("inf")),
            "the outputs vary between samples, where those of the network are the same for all of them, "
            "first at conv1 (constant in the network): "
            "try a larger weight_bitwidth, channel_wise=True, more timesteps or another mode",
        ),
    ],
)
def test_the_warning_names_the_layer_and_what_helps_there(found, said):
    """Finer numbers where quantization is the cause, more time where timing is; nothing below the limit."""
    assert spelled(warning(found)) == said
    assert facts(found)["warning"] == warning(found)
    assert facts(found)["is_large"] == bool(said)


def test_what_does_not_vary_in_the_network_is_no_percentage():
    """A network that gives all samples the same has nothing that an error could be a share of."""
    assert measured_line(Damage(0.5, 0.25)).endswith("of the SNN 25.00 %, of the quantized network 50.00 %")
    assert measured_line(Damage(0.5, float("inf"))) == off_by(float("inf"))
    assert "inf" not in off_by(float("inf"))


def evaluated(stepwise, quantized):
    """An evaluation with these accuracies and losses."""
    numbers = {"stepwise": stepwise, "quantized": quantized}
    return SimpleNamespace(
        headline=Classification.headline,
        scores={k: dict(zip(("accuracy", "loss"), v, strict=True)) for k, v in numbers.items()},
    )


def test_a_reset_to_zero_is_warned_of_where_it_shows():
    """By the first figure that differs as it is printed; not at all where none does."""
    settings = Settings(neurons=Neurons(reset_mode="zero"))

    def said(*numbers):
        return " ".join(cautions(settings, Damage(None, 0.1), evaluated(*numbers)))

    assert said((0.723, 0.5), (0.72302, 0.50001)) == ""
    assert "SNN stepwise: accuracy 72.30 %, where the quantized network has accuracy 72.40 %" in said(
        (0.723, 0.5), (0.724, 0.5)
    )
    assert said((0.8, 0.5), (0.7, 0.4)) == ""  # what it was trained for is better than the counts
    assert "SNN stepwise: loss 0.5, where the quantized network has loss 0.4" in said((0.7, 0.5), (0.7, 0.4))
    assert "inf" not in cautions(settings, Damage(None, float("inf")))[0]
