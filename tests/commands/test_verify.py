"""`verify`: every backend replays a pack, and what was changed in it is found, by layer, sample and step."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from ann2snn_cli.twins import replay
from ann2snn_cli.twins.twin import C, Numpy
from ann2snn_cli.workflows import verify

FIELDS = {"schema", "pack", "ok", "problems", "backends", "notes"}
RUN_FIELDS = {
    "backend", "version", "agrees", "skipped", "failed", "samples", "expected", "checked", "mismatches",
    "first", "seconds",
}  # fmt: skip


class Gone(C):
    """A backend whose tool is not there."""

    def unavailable(self) -> str:
        return "no C compiler was found: apt-get install gcc"


def missing(name: str) -> str:
    """Why a backend cannot run here."""
    return verify.TWINS[name].unavailable()


def backends() -> list:
    """All of them; those that are missing here are skipped, and say what is missing."""
    found = []
    for name in verify.TWINS:
        reason = missing(name)
        # Verilator compiles for ten seconds a pack: one test of its own is enough
        skip = reason or ("it has a test of its own" if name == "verilator" else "")
        found.append(pytest.param(name, marks=pytest.mark.skipif(bool(skip), reason=f"{name}: {skip}")))
    return found


@pytest.fixture(scope="session")
def packs(trained, tmp_path_factory, in_folder, ann2snn) -> Path:
    """A folder with tiny_snn.pth and its pack: 3 timesteps, one test sample and the corner cases."""
    folder = shutil.copytree(trained, tmp_path_factory.mktemp("packs"), dirs_exist_ok=True)
    with in_folder(folder):
        settings = ("-e", "0", "-T", "3", "--vectors", "1", "--weight_bitwidth", "4")
        assert ann2snn("convert", "./tiny.py", *settings).code == 0
    return folder


@pytest.fixture
def pack(packs, tmp_path) -> Path:
    """A copy of the pack to do harm to."""
    return shutil.copytree(packs / "tiny_snn_pack", tmp_path / "pack")


def flip(path: Path, line: int, bit: int) -> None:
    """Change one bit of one word."""
    lines = path.read_text().splitlines()
    lines[line] = f"{int(lines[line], 16) ^ 1 << bit:0{len(lines[line])}x}"
    path.write_text("\n".join(lines) + "\n")


def sign(folder: Path) -> None:
    """Enter what the files hold now into the manifest, as one would who changes a pack on purpose."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for name, entry in manifest["files"].items():
        content = (folder / name).read_bytes()
        entry["sha256"], entry["bytes"] = hashlib.sha256(content).hexdigest(), len(content)
    manifest["manifest_sha256"] = replay.manifest_hash(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("backend", backends())
def test_every_backend_agrees_with_the_engine(pack, ann2snn, backend):
    """Every spike, potential and result of every sample."""
    document = ann2snn("verify", str(pack), "--backend", backend, "--json").document
    assert set(document) == FIELDS
    assert document["ok"]
    (run,) = document["backends"]
    assert set(run) == RUN_FIELDS
    assert (run["backend"], run["agrees"], run["first"]) == (backend, True, None)
    # relu: 4x8x8 spikes and potentials, linear: 3 potentials, at each of 3 steps; and 3 results
    layers = {layer["name"]: layer for layer in json.loads((pack / "manifest.json").read_text())["layers"]}
    neurons = sum(
        (2 if layer["spikes"] else 1) * layer["shape"][0] * (64 if layer["spikes"] else 1)
        for layer in layers.values()
        if "potential" in layer
    )
    assert run["checked"] == run["expected"] == len(run["samples"]) * (3 * neurons + 3)


@pytest.mark.parametrize("backend", backends())
@pytest.mark.parametrize(
    ("file", "line", "bit", "layer"),
    [
        ("weights/0.mem", 4, 1, "1"),
        ("threshold/1.mem", 0, 3, "1"),
        ("stimulus/test_0000/input.mem", 20, 6, "1"),
        ("weights/4.mem", 10, 0, "4.bias"),
    ],
)
def test_one_changed_bit_is_found_by_every_backend(pack, ann2snn, backend, file, line, bit, layer):
    """A weight, a threshold, a stimulus: even where all hashes fit, the right layer and the first step."""
    flip(pack / file, line, bit)
    sign(pack)
    done = ann2snn("verify", str(pack), "--backend", backend, "--json")
    assert done.code == 4
    document = done.document
    assert document["problems"] == []
    (run,) = document["backends"]
    assert run["mismatches"] > 0
    assert run["first"]["layer"] == layer
    first = {
        key: run["first"][key] for key in ("sample", "layer", "step", "neuron", "field", "expected", "got")
    }
    assert first == first_by_hand(pack)


def first_by_hand(folder: Path) -> dict[str, object]:
    """The first difference in the order sample, layer, step, found in whole activities of the numpy twin."""
    pack = replay.read(folder)
    for sample in (entry["name"] for entry in pack.manifest["samples"]):
        activity = replay.replay(pack.network, pack.stimulus(sample))
        for layer in replay.recorded(pack):
            seen = activity[layer["name"]]
            for step in range(pack.network.steps):
                pairs = zip(
                    ("spike", "potential"), pack.expected(sample, layer), seen_values(seen), strict=True
                )
                for field, expected, got in pairs:
                    if expected is None or (expected[step] == got[step]).all():
                        continue
                    neuron = int((expected[step] != got[step]).ravel().argmax())
                    values = {"expected": expected[step].ravel()[neuron], "got": got[step].ravel()[neuron]}
                    place = {"sample": sample, "layer": layer["name"], "step": step + 1, "neuron": neuron}
                    return {**place, "field": field, **{name: int(value) for name, value in values.items()}}
    raise AssertionError("nothing differs")


def seen_values(activity: replay.Activity):
    """Spikes and potentials, as a pack records them."""
    return activity.train, activity.potentials


@pytest.mark.parametrize("backend", backends())
def test_a_changed_file_is_named_with_its_layer(pack, ann2snn, backend):
    """A bit of a weight, nothing else touched: the file by its hash, and the layer and step by the replay."""
    flip(pack / "weights/0.mem", 4, 1)
    done = ann2snn("verify", str(pack), "--backend", backend)
    assert done.code == 4
    assert "weights/0.mem (layer 0): its content was changed (sha256 differs)" in done.out
    assert f"first difference ({backend}): sample test_0000, layer 1, step 1, neuron" in done.out


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda pack: (pack / "weights/0.mem").unlink(), "weights/0.mem: it is missing"),
        (lambda pack: cut(pack / "weights/0.mem"), "weights/0.mem (layer 0): it holds 35 words, not 36"),
        (lambda pack: cut(pack / "expect/zeros/1.vmem.mem"), "1.vmem.mem (layer 1 sample zeros): it holds"),
        (lambda pack: change(pack), "manifest.json: it was changed after it was written"),
        (lambda pack: (pack / "manifest.json").write_text("{"), "manifest.json: it is damaged"),
    ],
)
def test_a_damaged_pack_is_no_proof(pack, ann2snn, harm, said):
    """Missing, short, changed: the file is named, whatever the replay says; 4 where a twin disagrees."""
    harm(pack)
    done = ann2snn("verify", str(pack), "--backend", "numpy")
    assert done.code == (4 if "first difference" in done.out else 1)
    assert said in done.out
    assert "NOT verified" in done.out
    assert not ann2snn("verify", str(pack), "--backend", "numpy", "--json").document["ok"]


@pytest.mark.parametrize("backend", backends())
@pytest.mark.parametrize("file", ["weights/0.mem", "stimulus/zeros/input.mem", "expect/zeros/1.spk.mem"])
def test_a_short_file_never_passes_for_zeros(pack, ann2snn, backend, file):
    """Simulators read what is missing as 0 or x, and still exit 0."""
    cut(pack / file)
    assert ann2snn("verify", str(pack), "--backend", backend, "--json").document["ok"] is False


def cut(path: Path) -> None:
    """The last word is lost."""
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def change(pack: Path) -> None:
    """Another stride, which still fits everything."""
    manifest = json.loads((pack / "manifest.json").read_text())
    manifest["contract"]["comparator"] = ">"
    (pack / "manifest.json").write_text(json.dumps(manifest))


def test_a_pth_is_packed_for_the_check(packs, in_folder, ann2snn):
    """At any delay, from the file alone; nothing is left behind."""
    before = sorted(path.name for path in packs.iterdir())
    with in_folder(packs):
        for delay in (("--schedule", "stepwise"), ("--schedule", "layerwise"), ("--delay", "1")):
            words = ("verify", "tiny_snn.pth", "--samples", "2", *delay, "--backend", "numpy")
            document = ann2snn(*words, "--json").document
            assert document["ok"]
            assert document["backends"][0]["samples"][:3] == ["test_0000", "test_0001", "zeros"]
    assert sorted(path.name for path in packs.iterdir()) == before


@pytest.mark.parametrize("command", ["verify", "export"])
def test_the_engine_of_a_pack_may_be_asked_for(packs, in_folder, tmp_path, ann2snn, command):
    """By name, where a pack is made of a .pth."""
    more = ("--backend", "numpy") if command == "verify" else ("--save_dir", str(tmp_path))
    words = (command, "tiny_snn.pth", "--samples", "1", *more)
    with in_folder(packs):
        assert ann2snn(*words, "--engine", "reference").code == 0
        done = ann2snn(*words, "--engine", "nonsense")
    assert (done.code, "reference" in done.err) == (2, True)


def test_chosen_samples_alone_are_replayed(pack, ann2snn):
    """--sample; an unknown one is answered with what there is."""
    document = ann2snn("verify", str(pack), "--backend", "numpy", "--sample", "max", "--json").document
    assert document["backends"][0]["samples"] == ["max"]
    done = ann2snn("verify", str(pack), "--backend", "numpy", "--sample", "maxx")
    assert done.code == 2
    assert "did you mean max?" in done.err


def test_faults_are_judged_and_survivors_listed(pack, ann2snn):
    """The score, layer by layer; mutants that survive are named; idle neurons are counted."""
    document = ann2snn("verify", str(pack), "--backend", "numpy", "--faults", "60", "--json").document
    faults = document["faults"]
    assert faults["mutants"] == 60
    assert faults["killed"] + faults["equivalent"] + len(faults["survivors"]) == 60
    assert sum(row["killed"] for row in faults["layers"]) == faults["killed"]
    assert faults["score"] == faults["killed"] / (60 - faults["equivalent"])
    assert {row["layer"] for row in document["coverage"]} >= {"1"}
    text = ann2snn("verify", str(pack), "--backend", "numpy", "--faults", "60").out
    assert f"the pack kills {faults['killed']} of" in text
    assert "never near the threshold" in text


def test_a_pack_without_samples_proves_nothing(packs, pack, in_folder, ann2snn):
    """None is written; and where one lies, no twin agrees with it, nor are faults counted."""
    with in_folder(packs):
        done = ann2snn("export", "tiny_snn.pth", "--samples", "0", "--no_corners")
    assert done.code == 2
    assert "leave --no_corners out" in done.err
    manifest = json.loads((pack / "manifest.json").read_text())
    (pack / "manifest.json").write_text(json.dumps(manifest | {"samples": []}))
    sign(pack)
    done = ann2snn("verify", str(pack), "--backend", "numpy", "--backend", "c", "--faults", "5")
    assert done.code == 1
    assert "it holds no samples" in done.out
    assert replay.main([str(pack)]) == 1


def test_a_file_of_the_wrong_kind_is_the_same_error_everywhere(packs, pack, in_folder, ann2snn):
    """A network's source is neither a pack nor an SNN: exit code 1, whoever is given it."""
    with in_folder(packs):
        for words in (("verify", "tiny.py"), ("simulate", "tiny.py"), ("diff", str(pack), "tiny.py")):
            assert ann2snn(*words).code == 1
        assert ann2snn("diff", "tiny.py", str(pack)).code == 1


def test_all_says_what_it_skips(pack, ann2snn, monkeypatch):
    """A backend that is missing is no failure, but it is not silent either."""
    both = {"numpy": verify.TWINS["numpy"], "c": Gone()}
    monkeypatch.setattr(verify, "TWINS", both)
    done = ann2snn("verify", str(pack), "--backend", "all")
    assert done.code == 0
    assert "no C compiler was found" in done.out
    assert "skipped" in done.out


def test_a_backend_that_is_asked_for_must_run(pack, ann2snn, monkeypatch):
    """Named alone, a missing backend is an error with its remedy; nothing verified is never success."""
    monkeypatch.setattr(verify, "TWINS", {"c": Gone()})
    done = ann2snn("verify", str(pack), "--backend", "c")
    assert done.code == 2
    assert "remedy: no C compiler was found: apt-get install gcc" in done.err
    done = ann2snn("verify", str(pack), "--backend", "all")
    assert done.code == 1
    assert "NOT verified: nothing was compared" in done.out


def test_samples_that_do_not_fit_the_clocks_are_left_out(pack, ann2snn, monkeypatch):
    """Verilog takes as many samples as the budget allows, and says so; none is a skip with the reason."""
    reason = missing("iverilog")
    if reason:
        pytest.skip(reason)
    clocks = verify.TWINS["iverilog"].clocks(replay.read(pack))
    words = ("verify", str(pack), "--backend", "iverilog", "--json", "--max_clocks")
    assert len(ann2snn(*words, str(2 * clocks)).document["backends"][0]["samples"]) == 2
    done = ann2snn(*words, str(clocks - 1))
    assert done.code == 1
    (run,) = done.document["backends"]
    assert f"one sample takes about {clocks:,} clocks" in run["skipped"]


class Slow(Numpy):
    """A hardware simulator that does 100 clocks a second, of which a sample takes 500."""

    clocks_per_second, build = 100, "a minute"

    def clocks(self, pack):
        return 500


def test_how_long_a_hardware_simulator_takes_is_told_before(pack, ann2snn, monkeypatch):
    """As many samples as 20 seconds are enough for; the build is told too, and how many samples there are."""
    monkeypatch.setitem(verify.TWINS, "slow", Slow("slow"))
    every = len(replay.read(pack).manifest["samples"])
    done = ann2snn("verify", str(pack), "--backend", "slow")
    assert done.code == 0, done.err
    assert f"slow: 4 of {every} samples, a build of a minute, then about 20 s" in done.err
    assert f"4 of {every}" in done.out


@pytest.mark.skipif(bool(missing("verilator")), reason=missing("verilator"))
def test_verilator_finds_a_changed_bit_and_nothing_else(pack, ann2snn):
    """One run, as it compiles for seconds: as many numbers differ as by numpy, and the same one first."""
    flip(pack / "weights/0.mem", 4, 1)
    sign(pack)
    words = ("verify", str(pack), "--backend", "verilator", "--backend", "numpy", "--json")
    run, numpy = ann2snn(*words).document["backends"]
    assert {name: run["first"][name] for name in first_by_hand(pack)} == first_by_hand(pack)
    for count in ("samples", "checked", "mismatches"):
        assert run[count] == numpy[count]
    assert 0 < run["mismatches"] < run["checked"]


def test_wrong_words_are_answered(pack, here, ann2snn):
    """An unknown backend, a path that is not there, a folder that is no pack."""
    done = ann2snn("verify", str(pack), "--backend", "nump")
    assert (done.code, "did you mean numpy?" in done.err) == (2, True)
    done = ann2snn("verify", "nothing", "--backend", "numpy")
    assert (done.code, "it does not exist" in done.err, "where: nothing" in done.err) == (2, True, True)
    (here / "file").touch()
    done = ann2snn("verify", "file", "--backend", "numpy")
    assert (done.code, "neither a vector pack nor an SNN.pth" in done.err) == (1, True)
    (here / "folder").mkdir()
    done = ann2snn("verify", "folder", "--backend", "numpy")
    assert (done.code, "no vector pack: there is no manifest.json" in done.err) == (1, True)
