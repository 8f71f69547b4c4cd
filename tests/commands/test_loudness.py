"""-q and -v: how much is said on stderr. The result on stdout stays the same."""

import logging

import pytest

WORDS = ("convert", "./tiny.py", "-e", "0", "-T", "2", "--vectors", "0")


def test_quiet_leaves_stderr_to_errors(tiny, ann2snn):
    """The result is the same as without; an error is still told."""
    usual, quiet = ann2snn(*WORDS), ann2snn(*WORDS, "-q")

    assert (quiet.code, quiet.err) == (0, "")
    assert quiet.out == usual.out
    assert "calibrate" in usual.err
    failed = ann2snn(*WORDS, "--quiet", "--ann_weight", "nonsense.pth")
    assert failed.err.startswith("error: ")


def test_quiet_says_nothing_of_what_a_config_holds_for_others(tiny, ann2snn):
    """That note is progress, not an error."""
    (tiny / "my.yaml").write_text("timing: {timesteps: 2}\n")
    assert "also sets timing" in ann2snn("inspect", "./tiny.py", "--config", "my.yaml").err
    assert ann2snn("inspect", "./tiny.py", "--config", "my.yaml", "-q").err == ""


def test_verbose_tells_the_settings_and_the_time_of_each_part(tiny, ann2snn):
    """Only what was given, with its value and where it stands."""
    done = ann2snn(*WORDS, "-v")

    assert "timing.timesteps is 2, from --timesteps\n" in done.err
    assert "run.seed" not in done.err
    assert "calibrate: took 0." in done.err
    assert "took" not in ann2snn(*WORDS).err


@pytest.mark.parametrize(("words", "said"), [(("-q",), []), ((), ["usual"]), (("-v",), ["usual", "more"])])
def test_what_the_package_logs_is_told(words, said, tiny, ann2snn, monkeypatch):
    """Downloads and the like, as lines; details with -v only. The logger is left as it was."""
    from ann2snn_cli import data

    log, load = logging.getLogger("ann2snn_cli.data"), data.load

    def loads(*args):
        log.info("it is usual")
        log.debug("it is more")
        return load(*args)

    monkeypatch.setattr(data, "load", loads)
    done = ann2snn(*WORDS, *words)
    assert [line.split()[-1] for line in done.err.splitlines() if line.startswith("it is")] == said
    assert logging.getLogger("ann2snn_cli").handlers == []


def test_both_at_once_are_refused(ann2snn):
    """One of them was not meant."""
    done = ann2snn("convert", "example_net", "-q", "-v")

    assert done.code == 2
    assert "-q and -v contradict each other" in done.err
