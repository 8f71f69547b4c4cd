"""`convert --latency` on the command line."""

import json


def test_on_the_command_line_the_choice_is_written(tiny, ann2snn):
    """In the settings, so that they repeat the run; and in the notes."""
    words = ("-e", "0", "--vectors", "0", "--json")
    done = ann2snn("convert", "./tiny.py", "--latency", "6", *words)
    refused = ann2snn("convert", "./tiny.py", "--latency", "6", "--layers", "0")
    document = json.loads(done.out)
    assert document["latency_steps"] <= 6
    assert document["settings"]["timing"]["timesteps"] == document["timesteps"] <= 6
    assert document["settings"]["timing"]["delay"] == document["delay"]
    assert "were chosen for --latency 6" in document["notes"][0]
    assert refused.code == 2
    assert "--latency 6 does nothing with --layers" in refused.err
