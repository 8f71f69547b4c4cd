"""Downloads: whole and verified, or nothing; what was cut goes on (B7)."""

import hashlib
import os
import signal
import subprocess
import sys
import time

import pytest

from ann2snn_cli import downloads
from ann2snn_cli.downloads import Checksum, fetch, file_of
from ann2snn_cli.errors import DownloadFailed, UsageError

CONTENT = bytes(range(256)) * 1000
SUM = Checksum("sha256", hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def url(server, monkeypatch, tmp_path):
    """The address of CONTENT; the cache is a folder of the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    server.files["/net.pth"] = CONTENT
    return f"{server.url}/net.pth"


def test_a_file_comes_whole_and_once(url, server, tmp_path):
    """What lies there and has the checksum is not downloaded again; nothing else is left."""
    path = fetch(url, tmp_path / "net.pth", SUM)

    assert path.read_bytes() == CONTENT
    assert fetch(url, path, SUM) == path
    assert server.ranges == [""]
    assert {each.name for each in tmp_path.iterdir()} == {"net.pth", ".net.pth.lock"}


def test_a_connection_that_is_cut_goes_on_in_the_same_run(url, server, tmp_path):
    """From the byte where it stopped (B7)."""
    server.cuts = 1

    assert fetch(url, tmp_path / "net.pth", SUM).read_bytes() == CONTENT
    assert server.ranges == ["", f"bytes={len(CONTENT) // 2}-"]


@pytest.mark.parametrize("checksum", [SUM, None])
def test_a_download_that_fails_is_gone_on_with_by_the_next_run(checksum, url, server, tmp_path):
    """Nothing has the final name before all of it is there, with a checksum or by the server's tag."""
    server.cuts = 3
    with pytest.raises(DownloadFailed, match="cut after 224,000 of 256,000 bytes") as caught:
        fetch(url, tmp_path / "net.pth", checksum)
    assert (caught.value.where, caught.value.remedy) == (url, downloads.AGAIN)
    assert not (tmp_path / "net.pth").exists()

    assert fetch(url, tmp_path / "net.pth", checksum).read_bytes() == CONTENT
    assert server.ranges[-1] == "bytes=224000-"


def test_a_server_that_knows_no_ranges_sends_it_all_again(url, server, tmp_path):
    """And the two are not joined."""
    server.knows_ranges, server.cuts = False, 1

    assert fetch(url, tmp_path / "net.pth", SUM).read_bytes() == CONTENT
    assert len(server.ranges) == 2


@pytest.mark.parametrize("with_checksum", [True, False])
def test_a_file_that_changed_between_two_runs_is_not_patched_together(with_checksum, url, server, tmp_path):
    """The rest of the new version does not follow the beginning of the old."""
    server.cuts = 3
    with pytest.raises(DownloadFailed):
        fetch(url, tmp_path / "net.pth")
    server.files["/net.pth"] = changed = CONTENT[::-1]
    checksum = Checksum("sha256", hashlib.sha256(changed).hexdigest()) if with_checksum else None

    assert fetch(url, tmp_path / "net.pth", checksum).read_bytes() == changed


def test_a_part_that_is_spoilt_is_thrown_away(url, server, tmp_path):
    """A wrong checksum after going on is no reason to give up."""
    (tmp_path / ".net.pth.part").write_bytes(b"x" * 1000)

    assert fetch(url, tmp_path / "net.pth", SUM).read_bytes() == CONTENT
    assert server.ranges == ["bytes=1000-", ""]


def test_a_part_that_is_longer_than_the_file_is_thrown_away(url, tmp_path):
    """The server has nothing from there on."""
    (tmp_path / ".net.pth.part").write_bytes(CONTENT + b"x")

    assert fetch(url, tmp_path / "net.pth", SUM).read_bytes() == CONTENT


def test_another_file_is_refused_and_nothing_of_it_stays(url, server, tmp_path):
    """Both checksums are said (B7)."""
    server.files["/net.pth"] = b"another"
    with pytest.raises(DownloadFailed, match="another file") as caught:
        fetch(url, tmp_path / "net.pth", SUM)

    assert SUM.digest in caught.value.what
    assert hashlib.sha256(b"another").hexdigest() in caught.value.what
    assert {each.name for each in tmp_path.iterdir()} == {".net.pth.lock"}


def test_a_file_that_was_spoilt_in_the_cache_is_fetched_anew(url, tmp_path):
    """It has the final name, and not the checksum."""
    (tmp_path / "net.pth").write_bytes(b"spoilt")

    assert fetch(url, tmp_path / "net.pth", SUM).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("{server}/no.pth", "the server answers 404 Not Found"),
        ("http://127.0.0.1:9/net.pth", "the server cannot be reached: Connection refused"),
        ("http://a b/net.pth", "the server cannot be reached: "),
        ("http://[/net.pth", "the server cannot be reached: "),
    ],
)
def test_what_went_wrong_is_said(address, what, url, server, tmp_path):
    """With the address, and what to do (B7)."""
    address = address.format(server=server.url)
    with pytest.raises(DownloadFailed) as caught:
        fetch(address, tmp_path / "net.pth")

    assert caught.value.what.startswith(what)
    assert (caught.value.where, caught.value.remedy) == (address, downloads.BY_HAND)
    assert not (tmp_path / "net.pth").exists()


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("{url}#sha256=12", "'sha256=12' is no checksum"),
        ("{url}#crc32=12345678", "'crc32=12345678' is no checksum"),
        ("file:///etc/passwd", "cannot be downloaded"),
    ],
)
def test_an_address_that_cannot_be_meant_is_refused(address, what, url):
    """Before anything is fetched."""
    with pytest.raises(UsageError, match=what):
        file_of(address.format(url=url), "ann_weight")


def test_an_address_has_its_place_in_the_cache(url, server, tmp_path):
    """Without a checksum it is fetched each time, as nobody knows whether it changed."""
    path = file_of(f"{url}#sha256={SUM.digest.upper()}", "ann_weight")

    assert path.name == "net.pth"
    assert (tmp_path / "cache" / "ann2snn" / "downloads") in path.parents
    assert file_of(url, "ann_weight") == path
    assert len(server.ranges) == 2


def test_a_folder_that_cannot_hold_it_is_named(url, tmp_path):
    """With how to name another."""
    (tmp_path / "file").write_text("")
    with pytest.raises(DownloadFailed, match="cannot be kept there") as caught:
        fetch(url, tmp_path / "file" / "net.pth")

    assert "XDG_CACHE_HOME" in caught.value.remedy


SLOW = """
import sys, time
from ann2snn_cli import downloads
from ann2snn_cli.__main__ import explain

read = downloads._read
def slowly(*args):
    print("reads", flush=True)
    time.sleep(0.2)
    return read(*args)
downloads._read = slowly
try:
    downloads.fetch(sys.argv[1], downloads.Path(sys.argv[2]))
except BaseException as raised:
    failure = explain(raised)
    print(failure.what, failure.remedy, failure.exit_code, sep="|")
"""


def test_ctrl_c_leaves_a_part_that_can_be_gone_on_with(url, server, tmp_path):
    """And says so (B7)."""
    path = tmp_path / "net.pth"
    running = subprocess.Popen(
        [sys.executable, "-c", SLOW, url, str(path)], stdout=subprocess.PIPE, text=True, env={**os.environ}
    )
    for _ in range(3):
        running.stdout.readline()
    time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    last = running.communicate()[0].splitlines()[-1]

    assert last == f"interrupted|{downloads.AGAIN}|130"
    assert not path.exists()
    assert fetch(url, path).read_bytes() == CONTENT
    assert server.ranges[-1].startswith("bytes=")
