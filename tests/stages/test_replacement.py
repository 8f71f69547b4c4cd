"""Results take the place of earlier ones as one; files of a user stay; a kill at any point does no harm."""

import contextlib
import json
import os
import sys
from pathlib import Path

import pytest

from ann2snn_cli.errors import BadFile
from ann2snn_cli.stages.export import files, replacement
from ann2snn_cli.stages.export.replacement import changed_in, finish, listed, replacing, write_folder
from ann2snn_cli.twins.replay import manifest_hash


def pack_of(*names: str):
    """What fills a folder with these files and a manifest that lists them."""

    def fill(place: Path) -> None:
        for name in names:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_text(f"ours: {name}")
        manifest = replacement.as_manifest(place, {"schema": "ann2snn/test/1"})
        (place / files.MANIFEST).write_bytes(manifest)

    return fill


def contents(folder: Path) -> dict[str, str]:
    """Every file below a folder, hidden ones too; a folder is listed if it is empty."""
    return {
        path.relative_to(folder).as_posix(): path.read_text() if path.is_file() else "(empty)"
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file() or not any(path.iterdir())
    }


# Folders -------------------------------------------------------------------------------------------


def test_a_folder_is_written_with_ordinary_permissions_and_leaves_no_trace(tmp_path):
    """Temporary folders are private; results are not."""
    path = write_folder(tmp_path / "a/b", pack_of("x.mem"))
    assert set(contents(tmp_path)) == {"a/b/manifest.json", "a/b/x.mem"}
    (tmp_path / "plain").mkdir()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_files_of_the_user_stay_and_ours_are_replaced(tmp_path):
    """Also those in folders of ours; both are told, removed ones by folder."""
    path, told = write_folder(tmp_path / "b", pack_of("x.mem", "c/one.c", "c/two.c")), []
    for name in ("rtl_log.csv", "c/mine.c", "own/deep/notes"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text("mine")
    (path / "link").symlink_to("nowhere")
    write_folder(path, pack_of("x.mem", "y.mem"), tell=told.append)
    found = contents(path)
    assert {name for name, text in found.items() if text == "mine"} == {
        "rtl_log.csv", "c/mine.c", "own/deep/notes",
    }  # fmt: skip
    assert set(found) - {"rtl_log.csv", "c/mine.c", "own/deep/notes"} == {
        "manifest.json", "x.mem", "y.mem", "link",
    }  # fmt: skip
    assert told == [
        "removed from b/, of an earlier run: c/ (2 files)",
        "kept in b/, not written by ann2snn: c/mine.c, link, own/deep/notes, rtl_log.csv",
    ]


def test_a_user_file_with_the_name_of_a_result_is_replaced_only_when_told(tmp_path):
    """Refused by its name, and nothing is changed."""
    path = write_folder(tmp_path / "b", pack_of("x.mem"))
    (path / "y.mem").write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(BadFile, match="not written by ann2snn") as raised:
        write_folder(path, pack_of("y.mem"))
    assert raised.value.where == str(path / "y.mem")
    assert contents(tmp_path) == before
    write_folder(path, pack_of("y.mem"), overwrite=True)
    assert contents(path)["y.mem"] == "ours: y.mem"


def test_files_of_ours_that_were_changed_are_replaced_only_when_told(tmp_path):
    """All are named, those too that the new result has not; what was removed is no loss."""
    path = write_folder(tmp_path / "b", pack_of("x.mem", "c/one.c", "y.mem"))
    for name in ("c/one.c", "x.mem"):
        (path / name).write_text("mine")
    (path / "y.mem").unlink()
    before = contents(tmp_path)
    with pytest.raises(BadFile, match=r"changed since ann2snn wrote them: c/one\.c, x\.mem ") as raised:
        write_folder(path, pack_of("x.mem"))
    assert (raised.value.where, "overwrite=True" in str(raised.value)) == (str(path), True)
    assert contents(tmp_path) == before
    write_folder(path, pack_of("x.mem"), overwrite=True)
    assert set(contents(path)) == {"x.mem", "manifest.json"}


def test_a_manifest_that_was_changed_is_a_changed_file(tmp_path):
    """By its own hash."""
    path = write_folder(tmp_path / "b", pack_of("x.mem"))
    assert changed_in(path) == []
    manifest = path / files.MANIFEST
    manifest.write_text(manifest.read_text().replace("test/1", "test/2"))
    assert changed_in(path) == [files.MANIFEST]


@pytest.mark.parametrize(("in_the_way", "result"), [("c", "c/one.c"), ("x.mem/mine", "x.mem")])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_user_file_is_no_folder_and_a_folder_no_file(in_the_way, result, overwrite, tmp_path):
    """A file where a folder shall be, a folder where a file shall be: never replaced."""
    path = write_folder(tmp_path / "b", pack_of("z.mem"))
    (path / in_the_way).parent.mkdir(exist_ok=True)
    (path / in_the_way).write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(BadFile, match="not written by ann2snn"):
        write_folder(path, pack_of(result), overwrite=overwrite)
    assert contents(tmp_path) == before


def test_a_foreign_folder_is_written_into_only_when_told_and_its_files_stay(tmp_path):
    """--overwrite must not cost a folder."""
    (tmp_path / "b").mkdir()
    (tmp_path / "b/thesis.tex").write_text("mine")
    with pytest.raises(BadFile, match="a folder of that name"):
        write_folder(tmp_path / "b", pack_of("x.mem"))
    write_folder(tmp_path / "b", pack_of("x.mem"), overwrite=True)
    assert contents(tmp_path / "b")["thesis.tex"] == "mine"
    assert contents(tmp_path / "b")["x.mem"] == "ours: x.mem"


def test_a_link_to_a_folder_stays_a_link(tmp_path):
    """The files behind it are replaced."""
    (tmp_path / "disk").mkdir()
    write_folder(tmp_path / "disk/b", pack_of("x.mem", "old.mem"))
    (tmp_path / "b").symlink_to("disk/b")
    write_folder(tmp_path / "b", pack_of("x.mem", "y.mem"))
    assert (tmp_path / "b").is_symlink()
    assert set(contents(tmp_path / "disk/b")) == {"manifest.json", "x.mem", "y.mem"}


def test_a_link_to_nothing_is_not_replaced_by_a_folder(tmp_path):
    """A disk that is not there now."""
    (tmp_path / "b").symlink_to("disk/b")
    with pytest.raises(BadFile, match="not written by ann2snn"):
        write_folder(tmp_path / "b", pack_of("x.mem"))
    assert (tmp_path / "b").is_symlink()


@pytest.mark.parametrize("name", ["../mine", "/mine", "", "sub/../../mine", "link/mine"])
def test_a_manifest_names_nothing_outside_its_folder(name, tmp_path):
    """A doctored manifest must not have files removed elsewhere."""
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "b").mkdir()
    (tmp_path / "b/link").symlink_to(tmp_path)
    document: dict = {"schema": "ann2snn/test/1", "files": {name: {}}}
    document["manifest_sha256"] = manifest_hash(document)
    (tmp_path / "b" / files.MANIFEST).write_bytes(files.as_json(document))
    assert listed(tmp_path / "b") == {files.MANIFEST}
    write_folder(tmp_path / "b", pack_of("x.mem"))
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.mark.parametrize("listing", [None, 3, "x.mem", [None, 3]])
def test_a_manifest_without_a_list_lists_only_itself(listing, tmp_path):
    """Or with one of another kind."""
    (tmp_path / files.MANIFEST).write_bytes(files.as_json({"schema": "ann2snn/test/1", "files": listing}))
    assert listed(tmp_path) & {"x.mem", files.MANIFEST} == {files.MANIFEST}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to a read-only folder")
def test_a_folder_that_is_shut_is_refused_before_anything_is_changed(tmp_path):
    """One below the folder of the result."""
    write_folder(tmp_path / "b", pack_of("c/x.mem"))
    (tmp_path / "b/c").chmod(0o555)
    before = contents(tmp_path)
    with pytest.raises(BadFile, match="cannot be written there"):
        write_folder(tmp_path / "b", pack_of("y.mem"))
    assert contents(tmp_path) == before


# Results that belong together ----------------------------------------------------------------------


def save(folder: Path, version: str, *names: str) -> None:
    """Two files and a folder that belong together; the folder only if it has files."""
    with replacing(folder, "net") as new:
        for name in ("net.pth", "net.yaml"):
            (new.place / name).write_text(f"{version}: {name}")
        if names:
            (new.place / "net_pack").mkdir()
            pack_of(*names)(new.place / "net_pack")
        else:
            new.absent.append("net_pack")


def test_all_results_are_replaced_or_none(tmp_path):
    """An error on the way: what was there is there, and nothing temporary."""
    save(tmp_path, "old", "a.mem")
    before = contents(tmp_path)
    full = OSError(28, "No space left on device")
    with contextlib.suppress(OSError), replacing(tmp_path, "net") as new:
        (new.place / "net.pth").write_text("new")
        raise full
    assert contents(tmp_path) == before


def test_a_file_that_shall_not_be_goes_with_the_rest(tmp_path):
    """An earlier one would not belong to the new results."""
    save(tmp_path, "old")
    with replacing(tmp_path, "net") as new:
        (new.place / "net.pth").write_text("new")
        new.absent.append("net.yaml")
    assert contents(tmp_path) == {"net.pth": "new"}


def test_a_folder_that_shall_not_be_loses_our_files_alone(tmp_path):
    """Empty folders of ours go with them."""
    save(tmp_path, "old", "a.mem", "c/one.c")
    (tmp_path / "net_pack/rtl_log.csv").write_text("mine")
    save(tmp_path, "new")
    assert contents(tmp_path) == {
        "net.pth": "new: net.pth", "net.yaml": "new: net.yaml", "net_pack/rtl_log.csv": "mine",
    }  # fmt: skip
    save(tmp_path / "other", "old", "a.mem")
    save(tmp_path / "other", "new")
    assert not (tmp_path / "other/net_pack").exists()


def killed_at(count: int, work) -> bool:
    """Do the work in another process that dies at its n-th change of the file system; did it come so far?"""
    child = os.fork()
    if child == 0:
        left = [count]

        def hook(event: str, arguments: tuple) -> None:
            writes = event == "open" and str(arguments[1]) not in ("r", "rb", "None")
            if writes or event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "tempfile.mkdtemp"):
                left[0] -= 1
                if left[0] == 0:
                    os._exit(9)

        sys.addaudithook(hook)
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


@pytest.mark.parametrize("new", [("a.mem", "b.mem", "c/two.c"), ()], ids=["with a pack", "without one"])
def test_a_kill_at_any_point_leaves_the_old_or_what_the_next_command_makes_the_new(new, tmp_path):
    """A real process that ends at its n-th write, rename or removal, for every n that there is."""
    wanted, count, seen = {}, 0, set()
    for version, names in (("old", ("a.mem", "c/one.c")), ("new", new)):
        place = tmp_path / version
        save(place, version, *names)
        (place / "net_pack").mkdir(exist_ok=True)
        (place / "net_pack/rtl_log.csv").write_text("mine")
        wanted[version] = contents(place)
    alive = True
    while alive:
        count += 1
        place = tmp_path / f"{count}"
        save(place, "old", "a.mem", "c/one.c")
        (place / "net_pack/rtl_log.csv").write_text("mine")
        alive = killed_at(count, lambda place=place: save(place, "new", *new))
        is_whole = (place / "net_pack/manifest.json").exists()
        finish(place / "net.pth")
        found = contents(place)
        visible = {name: text for name, text in found.items() if not name.startswith(".")}
        assert visible in wanted.values(), count
        state = "new" if visible == wanted["new"] else "old"
        seen.add((state, is_whole))
        save(place, "new", *new)
        assert contents(place) == wanted["new"], count
    assert count > 20
    assert {("old", True), ("new", False)} <= seen


def test_a_run_that_is_saving_is_waited_for_and_not_swept_away(tmp_path):
    """Two runs at once: what one is writing, the other leaves alone."""
    with replacing(tmp_path, "net") as one:
        (one.place / "net.pth").write_text("one")
        with replacing(tmp_path, "net") as other:
            (other.place / "net.pth").write_text("other")
    assert contents(tmp_path) == {"net.pth": "one"}


def test_who_finishes_says_so(tmp_path, monkeypatch):
    """By the names of the results; another result in the folder is none of its business."""
    monkeypatch.setattr(replacement, "_move_all", lambda ready: None)
    save(tmp_path, "new", "a.mem")
    monkeypatch.undo()
    told = []
    finish(tmp_path / "other.pth", told.append)
    assert told == []
    finish(tmp_path / "net_pack", told.append)
    assert told == ["finished what a run that was killed had begun to save: net.pth, net.yaml, net_pack"]
    assert set(contents(tmp_path)) == {"net.pth", "net.yaml", "net_pack/a.mem", "net_pack/manifest.json"}


@pytest.mark.parametrize(
    "journal", ["{", "[]", "{}", '{"results": ["net.pth"], "remove": ["../mine"]}', '{"remove": ["/mine"]}']
)
def test_what_a_killed_run_left_is_read_with_care(journal, tmp_path):
    """A folder from elsewhere must not have files removed."""
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "here/.net.ready/new").mkdir(parents=True)
    (tmp_path / "here/.net.ready/journal.json").write_text(journal)
    with pytest.raises(BadFile, match="damaged"):
        finish(tmp_path / "here/net.pth")
    with pytest.raises(BadFile, match="damaged"):
        save(tmp_path / "here", "new")
    assert (tmp_path / "mine").read_text() == "mine"


def test_the_journal_is_enough_for_another_process(tmp_path, monkeypatch):
    """What it says."""
    save(tmp_path, "old", "a.mem")
    monkeypatch.setattr(replacement, "_move_all", lambda ready: None)
    save(tmp_path, "new", "b.mem")
    journal = json.loads((tmp_path / ".net.ready/journal.json").read_text())
    assert journal == {
        "schema": "ann2snn/replacement/1",
        "results": ["net.pth", "net.yaml", "net_pack"],
        "remove": ["net_pack/a.mem"],
    }
