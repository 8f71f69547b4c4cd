"""`convert --latency`: T and D whose answer is there in time, and nearest to the network."""

from dataclasses import replace

import pytest

import ann2snn_cli
from ann2snn_cli.config import resolve
from ann2snn_cli.errors import UsageError
from ann2snn_cli.workflows import prepare
from ann2snn_cli.workflows.within_latency import within_latency

pytestmark = pytest.mark.filterwarnings("ignore::ann2snn_cli.DamageWarning")  # so few bits and steps
DEPTH = 2  # populations of the small network, one behind the other


def prepared(network, data, **timing):
    """As the workflows find it."""
    given = {f"timing.{name}": value for name, value in timing.items()}
    settings = resolve(None, [], {"finetune.epochs": 0, "quantize.weight_bitwidth": 3, **given})
    return prepare.from_objects(network, data, settings)


@pytest.mark.parametrize(("most", "timesteps"), [(3, 16), (10, 16), (14, 4)])
def test_what_is_chosen_is_nearest_of_all_that_are_in_time(small_network, small_data, most, timesteps):
    """Converted one by one, by the public function; ties go to the quicker."""
    found, note = within_latency(prepared(small_network, small_data, timesteps=timesteps), most)

    steps = [each for each in (2, 4, 8) if each < min(most, timesteps)] + [min(most, timesteps)]
    wanted, errors = small_network(small_data.x).detach(), {}
    for each in steps:
        largest = min(each, (most - each) // DEPTH)
        for delay in {0, largest // 2, largest}:
            snn = ann2snn_cli.convert(
                small_network, small_data.x, weight_bitwidth=3, timesteps=each, delay=delay
            )
            error = float((snn(small_data.x) - wanted).abs().mean())
            errors[each, delay] = (error, each + DEPTH * delay)
    best = min(errors, key=errors.get)
    assert (found.timing.timesteps, found.timing.delay) == best
    assert f"T = {best[0]} and D = {best[1]} were chosen" in note
    assert note.count("T = ") == 1 + len(errors)
    assert all(latency <= most for _, latency in errors.values())


def test_nothing_else_is_changed(small_network, small_data):
    """Of the settings only T and D."""
    asked = prepared(small_network, small_data)
    found, _ = within_latency(asked, 6)
    assert replace(found, timing=asked.settings.timing) == asked.settings


@pytest.mark.parametrize("given", [{"delay": 2}, {"schedule": "layerwise"}])
def test_a_delay_that_is_given_is_not_chosen(small_network, small_data, given):
    """Both at once contradict each other."""
    with pytest.raises(UsageError, match="chooses the delay"):
        within_latency(prepared(small_network, small_data, **given), 8)
