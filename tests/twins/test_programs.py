"""Programs that twins run: what they say, and that none of them outlives us."""

import os
import signal
import time

import pytest

from ann2snn_cli.twins import programs


def test_a_program_says_what_it_prints_and_how_it_ended():
    """Output and errors apart or together, whatever bytes they are."""
    script = ["sh", "-c", "printf 'one\\377'; printf two >&2; exit 3"]
    apart, together = programs.run(script), programs.run(script, together=True)
    assert (apart.returncode, apart.stdout, apart.stderr) == (3, "one\ufffd", "two")
    assert (together.returncode, together.stdout, together.stderr) == (3, "one\ufffdtwo", "")


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="there are no process groups")
def test_whoever_is_stopped_leaves_no_program_behind(tmp_path):
    """Not even one that the program started itself, as a compiler does."""

    def stop(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with pytest.raises(KeyboardInterrupt):
            programs.run(["sh", "-c", "sleep 60 & echo $! > pid; wait"], work=tmp_path)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    started, end = int((tmp_path / "pid").read_text()), time.monotonic() + 5
    while _runs(started):
        assert time.monotonic() < end, "what the program started still runs"
        time.sleep(0.02)


def _runs(number: int) -> bool:
    """A process that ended but that nobody asked about yet does not count."""
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    status = f"/proc/{number}/stat"
    if not os.path.exists(status):
        return True
    with open(status) as file:
        return file.read().rpartition(")")[2].split()[0] != "Z"
