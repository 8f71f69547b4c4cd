"""Signals end a command at once, but never in the middle of an import, which they would break."""

import importlib
import os
import signal
import sys
import time

import pytest

from ann2snn_cli.commands import signals
from ann2snn_cli.commands.signals import ended_by_signals
from ann2snn_cli.errors import Stopped


def imported(tmp_path, monkeypatch, text):
    """Import a module of this text."""
    (tmp_path / "slow_module.py").write_text("import os, signal, time\n" + text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "slow_module", raising=False)
    return importlib.import_module("slow_module")


def _killed(number):
    os.kill(os.getpid(), number)
    time.sleep(5)


@pytest.mark.parametrize(("name", "raised"), [("SIGINT", KeyboardInterrupt), ("SIGTERM", Stopped)])
def test_a_signal_ends_work(name, raised):
    """Where it comes; and when the work is over, the handlers are those from before."""
    before = signal.getsignal(getattr(signal, name))
    with pytest.raises(raised), ended_by_signals():
        _killed(getattr(signal, name))
    assert signal.getsignal(getattr(signal, name)) == before


@pytest.mark.parametrize(("name", "raised"), [("SIGINT", KeyboardInterrupt), ("SIGTERM", Stopped)])
def test_an_import_is_finished_first(name, raised, tmp_path, monkeypatch):
    """An `except BaseException` in a module, as libraries have it, cannot swallow the signal."""
    text = (
        "try:\n"
        f"    os.kill(os.getpid(), signal.{name}); time.sleep(0.2)\n"
        "except BaseException:\n    pass\n"
        "whole = True\n"
    )
    started = time.monotonic()
    with pytest.raises(raised), ended_by_signals():
        time.sleep(5 * imported(tmp_path, monkeypatch, text).whole)
    assert sys.modules["slow_module"].whole
    assert time.monotonic() - started < 4


def test_a_second_signal_does_not_wait(tmp_path, monkeypatch):
    """Who asks again means it."""
    twice = 2 * "os.kill(os.getpid(), signal.SIGINT); time.sleep(0.1); "
    text = twice + "time.sleep(9)"
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), ended_by_signals():
        imported(tmp_path, monkeypatch, text)
    assert time.monotonic() - started < 5
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0), "no alarm comes when nobody handles it"


def test_an_import_that_does_not_end_is_ended(tmp_path, monkeypatch):
    """A user's module may work for hours when it is imported."""
    monkeypatch.setattr(signals, "PATIENCE", 3)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), ended_by_signals():
        imported(tmp_path, monkeypatch, "os.kill(os.getpid(), signal.SIGINT); time.sleep(9)")
    assert time.monotonic() - started < 5
