"""Files that lie are refused in words by every command that reads them, and take no memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import doctored as lies
import pytest
import torch

from ann2snn_cli.ir.contract import MOST_TIMESTEPS
from ann2snn_cli.stages.export import pth
from ann2snn_cli.twins import PROGRAMS, TWINS, replay
from ann2snn_cli.twins.replay import Damaged

ROOT = Path(__file__).parents[2]
ALL_COMMANDS = ("_bomb", "_huge", "_cycle", "_outside", "_link", "runs_", "ann_", "npz_", "yaml_", "chip_")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with the honest files and those that lie, and what the latter are."""
    folder = tmp_path_factory.mktemp("lies")
    lies.honest(folder)
    return folder, list(lies.doctored(folder))


def test_every_file_that_lies_is_refused_in_words(files, ann2snn, in_folder):
    """A documented exit code, what is wrong, no traceback, and nobody's fault; each kind has several."""
    folder, doctored = files
    wrong = []
    with in_folder(folder):
        for each in doctored:
            commands = each.commands if any(word in each.name for word in ALL_COMMANDS) else each.commands[:1]
            for words in commands:
                done = ann2snn(*words)
                told = done.out + done.err
                if (
                    done.code not in (1, 2, 3, 4)
                    or "fault of ann2snn" in told
                    or "Traceback" in told
                    or not told
                ):
                    wrong.append(f"{each.name} ({each.wrong}): {' '.join(words)}: {done.code}, {told[:200]}")
        assert not Path("was_run").exists(), "text of a manifest was run"
    assert not wrong, "\n".join(wrong)
    assert len(doctored) >= 60
    assert {each.kind for each in doctored} == set(lies.READERS)
    assert len({each.name for each in doctored}) == len(doctored)


def test_the_honest_files_are_read(files, ann2snn, in_folder):
    """What is refused is refused for what was changed."""
    folder, _ = files
    with in_folder(folder):
        for words in (
            ["inspect", "honest.pth"],
            ["inspect", "honest_opaque.pth"],
            ["verify", "honest_pack", "--backend", "numpy", "--backend", "onnx"],
            ["diff", "honest_pack", "honest_pack"],
            ["inspect", "honest.onnx", "--dataset", "npz:honest.npz"],
            ["check", lies.NETWORK, "--hardware", "honest_chip.yaml"],
        ):
            done = ann2snn(*words)
            assert done.code == 0, (words, done.err)


def test_what_a_file_of_another_place_holds_is_not_told(files, ann2snn, in_folder):
    """Not even how many words it has: all that is said is about the manifest, which names it."""
    folder, doctored = files
    outside = [each for each in doctored if each.kind == "pack" and "outside" in each.name]
    assert len(outside) >= 5
    with in_folder(folder):
        for each in outside:
            document = ann2snn("verify", str(each.path), "--json").document
            assert [problem["file"] for problem in document["problems"]] == ["manifest.json"], each.name
            assert document["backends"] == []
            assert "words" not in document["problems"][0]["what"]


@pytest.mark.parametrize("name", sorted({*TWINS, *PROGRAMS}))
def test_no_twin_is_given_a_pack_that_lies(name, files):
    """All twins, and the programs that are written for other languages, take what `read` gives: it raises."""
    _, doctored = files
    packs = [each for each in doctored if each.kind == "pack"]
    assert len(packs) > 30
    for each in packs:
        with pytest.raises(Damaged) as caught:
            _given_to(name, each.path)
        assert caught.value.problems[0].what, each.name


def _given_to(name, place):
    pack = replay.read(place)
    if name in PROGRAMS:
        PROGRAMS[name](pack)
    else:
        TWINS[name].verify(pack, ["one"], place)


def test_a_pack_that_lies_is_refused_by_its_own_copy_of_the_twin(files, capsys):
    """`python replay.py`, without ann2snn: one line that says what is wrong, exit code 1."""
    _, doctored = files
    for each in [each for each in doctored if each.kind == "pack"]:
        assert replay.main([str(each.path)]) == 1, each.name
        told = capsys.readouterr().out.splitlines()
        assert told[-1].startswith("the pack cannot be replayed: "), (each.name, told)


def test_a_manifest_as_large_as_that_of_many_samples_is_read(tmp_path):
    """Limits are for lies: a result of 300 000 sums and a manifest of 3 MB are honest."""
    lies.honest(tmp_path)
    manifest = json.loads((tmp_path / "honest_pack/manifest.json").read_text())
    manifest["absent"] = [{"name": str(number), "reason": "x" * 90} for number in range(30_000)]
    lies._write_manifest(tmp_path / "honest_pack", manifest)
    assert replay.problems(tmp_path / "honest_pack") == []
    assert replay.read(tmp_path / "honest_pack").network.steps == 4


def test_a_snn_with_the_most_that_is_allowed_is_loaded(tmp_path):
    """T of 2^16, 2^53 - 1 as a threshold, 32 fraction bits: the limits themselves are no lies."""
    lies.honest(tmp_path)
    content = torch.load(tmp_path / "honest.pth", weights_only=True)
    content["contract"]["timesteps"] = MOST_TIMESTEPS
    lies._node(content, "fire")["fields"] |= {"threshold": torch.tensor(2**53 - 1), "fraction_bits": 32}
    torch.save(content, tmp_path / "most.pth")
    assert pth.load(tmp_path / "most.pth")[0].timing.timesteps == MOST_TIMESTEPS


LIMITED = """
import resource, sys
from pathlib import Path
import onnx, torch
from ann2snn_cli.__main__ import main
from ann2snn_cli.workflows import convert, inspect, verify
taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + 2**30,) * 2)
for words in [line.split() for line in sys.stdin.read().splitlines()]:
    print(*words, "->", main(words), file=sys.stderr)
"""
CLAIMS = (
    "timesteps_1099511627776", "shape_huge", "weight_spread", "bits_huge", "fraction_huge", "kernel_huge",
    "doubled", "allocates", "opaque_huge", "snn_bomb", "snn_storage", "pack_shape_huge", "pack_padding",
    "pack_sparse", "pack_nested", "onnx_dims", "onnx_sparse", "onnx_longer", "onnx_fill", "onnx_expand",
    "onnx_doubled", "onnx_laughs", "ann_spread", "ann_allocates", "ann_bomb", "ann_legacy", "yaml_laughs",
    "yaml_wide", "yaml_large", "chip_bits", "npz_claim", "npz_bomb", "npz_classes",
)  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited by a means of Linux")
def test_a_claim_is_refused_before_memory_is_taken(files):
    """In a process that may take 1 GB more than its imports, none is out of memory."""
    folder, doctored = files
    chosen = [each for each in doctored if each.name in CLAIMS]
    assert len(chosen) == len(CLAIMS)
    done = subprocess.run(
        [sys.executable, "-c", LIMITED],
        input="\n".join(" ".join(each.commands[0]) for each in chosen),
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    codes = [line.rpartition("-> ")[2] for line in done.stderr.splitlines() if "-> " in line]
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(codes) == len(chosen)
    assert set(codes) <= {"1", "2", "4"}, done.stderr
    for word in ("out of memory", "MemoryError", "can't allocate", "fault of ann2snn"):
        assert word not in done.stderr, done.stderr
