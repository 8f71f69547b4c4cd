"""`diff`: where two packs differ, or a pack and a simulator's log."""

import csv
import os
import shutil

import pytest


@pytest.fixture(scope="session")
def made(trained, tmp_path_factory, in_folder, ann2snn):
    """A folder with the pack of one sample, as it is, at 3 bits, and layerwise."""
    folder = shutil.copytree(trained, tmp_path_factory.mktemp("made"), dirs_exist_ok=True)
    others = {"as_is": (), "three": ("--weight_bitwidth", "3"), "layerwise": ("--schedule", "layerwise")}
    with in_folder(folder):
        for name, words in others.items():
            common = ("-e", "0", "-T", "3", "--vectors", "1", "--save_file", f"{name}.pth")
            assert ann2snn("convert", "./tiny.py", *common, *words).code == 0
    return folder


@pytest.fixture
def pack(made, tmp_path):
    """A copy of the first."""
    return shutil.copytree(made / "as_is_pack", tmp_path / "pack")


def test_a_pack_is_the_same_as_itself(made, ann2snn):
    """Nothing differs, and what was compared is counted."""
    done = ann2snn("diff", made / "as_is_pack", made / "as_is_pack", "--json")
    assert done.code == 0
    assert (done.document["same"], done.document["mismatches"], done.document["network"]) == (True, 0, [])
    assert done.document["checked"] > 1000


def test_other_weights_are_named_by_layer_and_place(made, ann2snn):
    """The parameters of each layer, and then the first activity."""
    done = ann2snn("diff", made / "as_is_pack", made / "three_pack", "--json")
    assert done.code == 4
    assert any(line.startswith("layer 0, weight: ") for line in done.document["network"])
    assert done.document["first"]["layer"] == "1"


def test_another_delay_is_another_contract(made, ann2snn):
    """It is said before anything else."""
    document = ann2snn("diff", made / "as_is_pack", made / "layerwise_pack", "--json").document
    assert document["network"][0] == "contract, delay: 0 | 3"


def test_one_potential_is_found(pack, made, ann2snn):
    """Sample, layer, step, neuron with its coordinates, and both values."""
    file = pack / "expect/zeros/1.vmem.mem"
    lines = file.read_text().splitlines()
    before = lines[256 + 2 * 64 + 3 * 8 + 5]  # step 2, channel 2, y 3, x 5 of 4x8x8
    lines[256 + 2 * 64 + 3 * 8 + 5] = f"{int(before, 16) ^ 1:0{len(before)}x}"
    file.write_text("\n".join(lines) + "\n")
    done = ann2snn("diff", made / "as_is_pack", pack)
    assert done.code == 4
    assert "1 differ" in done.out
    assert "sample zeros, layer 1, step 2, neuron 157 (channel 2, y 3, x 5): potential" in done.out


def log_of(pack, path, *, wrong=None):
    """A simulator's log of sample `max`, layer 1, made from the text of the pack's spikes."""
    rows = (pack / "expect/max/1.spk.mem").read_text().split()
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sample", "layer", "step", "neuron", "spike"])
        for step, row in enumerate(rows, start=1):
            for neuron in range(0, 256, 5):  # some of them
                spike = int(row, 16) >> neuron & 1
                writer.writerow(["max", "1", step, neuron, spike ^ ((step, neuron) == wrong)])
    return path


def test_a_table_may_hold_a_part(pack, tmp_path, ann2snn):
    """What it holds is compared: 52 neurons at 3 steps."""
    document = ann2snn("diff", pack, log_of(pack, tmp_path / "log.csv"), "--json").document
    assert (document["same"], document["checked"]) == (True, 3 * 52)


def test_a_table_with_one_wrong_spike(pack, tmp_path, ann2snn):
    """Found by step and neuron."""
    done = ann2snn("diff", pack, log_of(pack, tmp_path / "log.csv", wrong=(2, 40)), "--json")
    assert done.code == 4
    first = done.document["first"]
    assert [first[name] for name in ("sample", "layer", "step", "neuron", "field")] == [
        "max",
        "1",
        2,
        40,
        "spike",
    ]
    assert first["expected"] != first["got"]


def test_what_a_simulator_does_not_know_is_a_difference(pack, tmp_path, ann2snn):
    """`x` is no number, and no zero."""
    (tmp_path / "log.csv").write_text("sample,layer,step,neuron,spike,potential\nmax,1,1,0,x,\n")
    document = ann2snn("diff", pack, tmp_path / "log.csv", "--json").document
    assert (document["checked"], document["mismatches"], document["first"]["got"]) == (1, 1, None)


def test_a_folder_of_memories_is_a_log(pack, tmp_path, ann2snn):
    """As `$writememh` leaves them."""
    log = tmp_path / "log"
    (log / "max").mkdir(parents=True)
    shutil.copy(pack / "expect/max/1.vmem.mem", log / "max")
    assert ann2snn("diff", pack, log).code == 0
    text = (log / "max/1.vmem.mem").read_text()
    (log / "max/1.vmem.mem").write_text(("0" if text[0] != "0" else "1") + text[1:])
    document = ann2snn("diff", pack, log, "--json").document
    assert (document["first"]["step"], document["first"]["neuron"], document["mismatches"]) == (1, 0, 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n", "it has not the columns"),
        ("sample,layer,step,neuron,spike\nmax,1,one,2,0\n", "line 2: its step is 'one', no whole number"),
        ("sample,layer,step,neuron,spike\nmax,1,1,2,\0\n", r"line 2: its spike is '\x00', no whole number"),
        ("sample,layer,step,neuron,spike\nmax,1,1,2," + "9" * 5000, "9999', no whole number"),
        ("sample,layer,step,neuron,spike\nmax,1\n", "line 2: it has no step"),
        (
            "sample,layer,step,neuron,spike\nmax,1,9,2,0\n",
            "step 9, neuron 2, but the pack holds",
        ),
        ("sample,layer,step,neuron,spike\nother,1,1,2,0\n", "it holds no sample and layer"),
        ("\udc80", "it is no text"),
        ("", "it has not the columns"),
    ],
)
def test_a_log_that_says_nothing_is_refused(pack, tmp_path, ann2snn, text, said):
    """Nothing compared is never `the same`."""
    (tmp_path / "log.csv").write_text(text, errors="surrogateescape")
    done = ann2snn("diff", pack, tmp_path / "log.csv")
    assert done.code == 1
    assert said in done.err
    assert f"where: {tmp_path / 'log.csv'}\n" in done.err
    assert "remedy: give a second vector pack, a CSV with the columns sample, layer, step, neuron" in done.err


def test_a_log_may_begin_with_the_mark_that_spreadsheets_write(pack, tmp_path, ann2snn):
    """UTF-8 with a byte order mark."""
    log = tmp_path / "log.csv"
    log.write_bytes(b"\xef\xbb\xbfsample,layer,step,neuron,potential\nmax,1,1,2,0\n")
    assert ann2snn("diff", pack, log, "--json").document["checked"] == 1


@pytest.mark.parametrize(
    ("of", "code", "said"),
    [
        ("nothing", 2, "it does not exist"),
        ("empty", 1, "it is no vector pack: there is no manifest.json in it"),
        ("as_is.pth", 1, "it is a file, and no folder of a vector pack"),
        ("as_is_pack/manifest.json", 1, "it is a file, and no folder of a vector pack"),
    ],
)
def test_the_first_is_a_pack(made, tmp_path, ann2snn, of, code, said):
    """A wrong name, a file and another folder are told apart, with exit codes as elsewhere."""
    (made / "empty").mkdir(exist_ok=True)
    done = ann2snn("diff", made / of, made / "as_is_pack")
    assert (done.code, said in done.err) == (code, True), done.err
    assert f"where: {made / of}\n" in done.err


@pytest.mark.parametrize(
    ("of", "code", "said"),
    [
        ("nothing", 2, "it does not exist"),
        ("pipe", 2, "it is neither a file nor a folder"),
        ("empty", 1, "it holds no sample and layer"),
        ("as_is.pth", 1, "it is no text"),
        ("as_is.json", 1, "it has not the columns"),
    ],
)
def test_the_second_is_a_pack_or_a_log(made, pack, tmp_path, ann2snn, of, code, said):
    """One error, about the second; nobody waits for a pipe."""
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("as_is.pth", "as_is.json"):
        shutil.copy(made / name, tmp_path)
    done = ann2snn("diff", pack, tmp_path / of)
    assert (done.code, said in done.err) == (code, True), done.err
    assert f"where: {tmp_path / of}\n" in done.err


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("file", ["weights/0.mem", "expect/max/1.vmem.mem", "manifest.json"])
def test_a_damaged_pack_is_refused(pack, made, ann2snn, file, first):
    """With the file's name, and the name of that pack of the two."""
    (pack / file).write_bytes((pack / file).read_bytes()[:-2])
    both = (pack, made / "as_is_pack") if first else (made / "as_is_pack", pack)
    done = ann2snn("diff", *both)
    assert done.code == 1
    assert f"it cannot be compared: {file}: " in done.err
    assert f"where: {pack}\n  remedy: export it again, or copy it again in full" in done.err
