"""The twins on packs that no code of ours wrote: five equal neurons, every word spelled out.

Damaged files are shown to the C99 twin here; the numpy twin's own tests are in test_replay.py.
"""

import json
import subprocess
from dataclasses import replace

import pytest

from ann2snn_cli.twins import TWINS, Simulator, c, programs, replay
from ann2snn_cli.twins.replay import Damaged, Difference, Outcome, Problem

compiled = pytest.mark.skipif(bool(c.unavailable()), reason=c.unavailable() or "there is one")

# T = 4, weight 3, stimulus 1, bias -1 (so the charge is 2), threshold 4, V0 = 2. By delay, reset, comparator:
# the potentials after the reset and the spikes of the 4 firing steps; behind them the potentials before it.
TABLE = {
    (0, "subtraction", ">="): ([0, 2, 0, 2], [1, 0, 1, 0]),  # 4, 2, 4, 2
    (0, "subtraction", ">"): ([4, 2, 4, 2], [0, 1, 0, 1]),  # 4, 6, 4, 6
    (0, "zero", ">="): ([0, 2, 0, 2], [1, 0, 1, 0]),  # 4, 2, 4, 2
    (0, "zero", ">"): ([4, 0, 2, 4], [0, 1, 0, 0]),  # 4, 6, 2, 4
    (1, "subtraction", ">="): ([2, 0, 2, 2], [1, 1, 0, 0]),  # 4; then 6, 4, 2, 2: no charge in the last step
    (1, "subtraction", ">"): ([2, 4, 2, 2], [1, 0, 1, 0]),  # 4; then 6, 4, 6, 2
    (1, "zero", ">="): ([0, 2, 0, 0], [1, 0, 1, 0]),  # 4; then 6, 2, 4, 0
    (1, "zero", ">"): ([0, 2, 4, 4], [1, 0, 0, 0]),  # 4; then 6, 2, 4, 4
    (2, "subtraction", ">="): ([4, 2, 2, 2], [1, 1, 0, 0]),  # 4, 6; then 8, 6, 2, 2
    (2, "zero", ">="): ([0, 2, 2, 2], [1, 0, 0, 0]),  # 4, 6; then 8, 2, 2, 2
    (3, "subtraction", ">="): ([6, 2, 2, 2], [1, 1, 0, 0]),  # 4, 6, 8; then 10, 6, 2, 2
    (4, "subtraction", ">="): ([6, 2, 2, 2], [1, 1, 0, 0]),  # 4, 6, 8, 10; then 10, 6, 2, 2: as D = 3
    (4, "subtraction", ">"): ([6, 2, 2, 2], [1, 1, 0, 0]),
    (4, "zero", ">="): ([0, 0, 0, 0], [1, 0, 0, 0]),  # 4, 6, 8, 10; then 10, 0, 0, 0
    (4, "zero", ">"): ([0, 0, 0, 0], [1, 0, 0, 0]),
}
USUAL = (0, "subtraction", ">=")
WEIGHTS, STIMULUS, RESULT = "weights/w.mem", "stimulus/s/in.mem", "expect/s/result.json"
SPIKES, POTENTIALS = "expect/s/n.spk.mem", "expect/s/n.vmem.mem"


def contents(potentials, spikes, name):
    """The files, by name."""
    lines = "".join(f"{value:02x}\n" * 5 for value in potentials)
    return {
        WEIGHTS: "3\n" * 5,
        "threshold/n.mem": "04\n",
        "bias/n.mem": "1f\n",
        "initial/n.mem": "02\n" * 5,
        STIMULUS: "1\n",
        SPIKES: "".join("1f\n" if spike else "00\n" for spike in spikes),
        POTENTIALS: lines,
        RESULT: json.dumps({"label": 1, "outputs": {name: [sum(spikes)] * 5}, "prediction": 1}),
    }


def layers(name):
    """What the manifest says about the input, the synapses and the neurons."""
    signed = "two's complement"
    weight = {"file": WEIGHTS, "shape": [5, 1], "words": 5, "bits": 3, "encoding": signed}
    neurons = {
        role: {
            "file": f"{role}/n.mem",
            "shape": [1],
            "words": 1,
            "bits": 5,
            "encoding": signed,
            "per": "layer",
        }
        for role in ("threshold", "bias", "initial")
    }
    neurons["initial"] |= {"shape": [5], "words": 5, "per": "neuron"}
    ends, bits = {"lowest": -16, "highest": 15}, {"lowest": 0, "highest": 1}
    return [
        {"name": "x", "file_name": "in", "kind": "input", "inputs": [], "shape": [1], "passes": bits,
         "bits": 1, "encoding": "unsigned", "source": "", "parameters": {}},
        {"name": "w", "file_name": "w", "kind": "linear", "inputs": ["x"], "shape": [5], "passes": ends,
         "source": "", "parameters": {"weight": weight}},
        {"name": name, "file_name": "n", "kind": "integrate_fire", "inputs": ["w"], "shape": [5],
         "passes": bits, "fraction_bits": 0, "source": "", "potential": {"bits": 5, "bound": ends},
         "parameters": neurons},
    ]  # fmt: skip


def write(folder, delay, reset_mode, comparator, name="n"):
    """The pack of one line of the table."""
    files = contents(*TABLE[delay, reset_mode, comparator], name)
    for file, text in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text)
    contract = {"timesteps": 4, "delay": delay, "reset_mode": reset_mode, "comparator": comparator}
    expect = {name: {"spikes": SPIKES, "potentials": POTENTIALS}}
    manifest = {
        "schema": replay.SCHEMA,
        "contract": contract,
        "recorded": {"steps": 4, "potentials": True, "layers": [name]},
        "widest_bits": 6,
        "outputs": [name],
        "layers": layers(name),
        "samples": [
            {"name": "s", "stimulus": {"x": STIMULUS}, "events": {}, "result": RESULT, "expect": expect}
        ],
        "files": {},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return replay.read(folder)


@pytest.fixture
def work(tmp_path, monkeypatch):
    """An empty folder; what is built there is built quickly."""
    monkeypatch.setattr(c, "FLAGS", ("-std=c99", "-O0"))
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("twin", [name for name in TWINS if not isinstance(TWINS[name], Simulator)])
@pytest.mark.parametrize(("delay", "reset_mode", "comparator"), TABLE)
def test_neurons_do_what_was_computed_by_hand(delay, reset_mode, comparator, twin, tmp_path, work):
    """Any delay, either reset and comparator: 4 steps of 5 spikes and 5 potentials, and 5 results."""
    if reason := TWINS[twin].unavailable():
        pytest.skip(reason)
    pack = write(tmp_path / "pack", delay, reset_mode, comparator)
    assert TWINS[twin].verify(pack, ["s"], work) == Outcome(45, 0, None)


@compiled
def test_the_comparator_of_the_contract_is_kept(tmp_path, work):
    """`>` where `>=` is expected: a neuron that meets its threshold exactly does not fire."""
    pack = write(tmp_path / "pack", *USUAL)
    contract = {**pack.network.contract, "comparator": ">"}
    strict = replace(pack, network=replace(pack.network, contract=contract))
    outcome = c.verify(strict, ["s"], work)
    assert outcome.first == Difference("s", "n", 1, 0, "spike", 1, 0)
    assert outcome == replay.verify(strict, ["s"])


@compiled
@pytest.mark.parametrize("name", ['a "b" \\c ??= %s ü', "label", "outputs"])
def test_a_wrong_result_alone_is_found_whatever_the_output_is_called(name, tmp_path, work):
    """Quotes, backslashes, blanks, trigraphs and letters beyond ASCII; names of other fields."""
    pack = write(tmp_path / "pack", *USUAL, name)
    text = (pack.folder / RESULT).read_text()
    (pack.folder / RESULT).write_text(text.replace("[2, 2, 2, 2,", "[2, 2, 2, -7,"))
    assert c.verify(pack, ["s"], work) == Outcome(45, 1, Difference("s", name, 0, 3, "result", -7, 2))


# Files that are believed by no one --------------------------------------------------------------------


def without_last(text):
    """A line is lost."""
    return "".join(text.splitlines(keepends=True)[:-1])


DAMAGE = {
    "a weight too few": (WEIGHTS, without_last, "line 5 is missing or cut off"),
    "a weight too many": (WEIGHTS, lambda text: text + "0\n", "line 6 is one too many"),
    "an empty file": (WEIGHTS, lambda text: "", "line 1 is missing or cut off"),
    "an empty line": (WEIGHTS, lambda text: "\n" + text, "line 1 has too few digits"),
    "a wide line": (WEIGHTS, lambda text: "0" + text, "line 1 has too many digits"),
    "no number": (WEIGHTS, lambda text: "x" + text[1:], "line 1 holds something that is no lower-case"),
    "a sign": ("bias/n.mem", lambda text: "-1\n", "line 1 holds something that is no lower-case"),
    "a capital": ("bias/n.mem", lambda text: "1F\n", "line 1 holds something that is no lower-case"),
    "a zero byte": (WEIGHTS, lambda text: "\0" + text[1:], "line 1 holds something that is no lower-case"),
    "a comment": (WEIGHTS, lambda text: "// w\n" + text, "line 1 holds something that is no lower-case"),
    "foreign line ends": (WEIGHTS, lambda text: text.replace("\n", "\r\n"), "line 1 has too many digits"),
    "no last line end": (WEIGHTS, lambda text: text[:-1], "line 5 has no end"),
    "bits above the width": (WEIGHTS, lambda text: "b" + text[1:], "line 1 holds bits above the width"),
    "a short word": ("threshold/n.mem", lambda text: "4\n", "line 1 has too few digits"),
    "a stimulus too many": (STIMULUS, lambda text: text + text, "line 2 is one too many"),
    "no stimulus": (STIMULUS, lambda text: "", "line 1 is missing or cut off"),
    "a step too few": (SPIKES, without_last, "line 4 is missing or cut off"),
    "a step too many": (SPIKES, lambda text: text + text[:3], "line 5 is one too many"),
    "a short step": (SPIKES, lambda text: text[1:], "line 1 holds spikes of neurons that do not exist"),
    "half a step": (SPIKES, lambda text: text[:-2], "line 4 is missing or cut off"),
    "a long step": (SPIKES, lambda text: "0" + text, "line 1 has too many digits"),
    "spikes of nobody": (SPIKES, lambda text: "3" + text[1:], "line 1 holds spikes of neurons that do not"),
    "a potential too few": (POTENTIALS, without_last, "line 20 is missing or cut off"),
    "a potential too many": (POTENTIALS, lambda text: text + text[:3], "line 21 is one too many"),
    "no such output": (
        RESULT,
        lambda text: text.replace('"n"', '"m"'),
        'it does not hold 5 integers in "outputs"',
    ),
    "a result too few": (RESULT, lambda text: text.replace("[2, ", "["), "it does not hold 5 integers"),
    "a result too many": (
        RESULT,
        lambda text: text.replace("[2, ", "[2, 2, "),
        "it does not hold 5 integers",
    ),
    "a fraction": (RESULT, lambda text: text.replace("[2, ", "[2.5, "), "it does not hold 5 integers"),
    "an empty place": (RESULT, lambda text: text.replace("[2, ", "[, "), "it does not hold 5 integers"),
    "a lone sign": (RESULT, lambda text: text.replace("[2, ", "[-, "), "it does not hold 5 integers"),
    "a broken result": (RESULT, lambda text: text[: text.index("[") + 3], "it does not hold 5 integers"),
    "an open string": (RESULT, lambda text: '{"outputs', "it does not hold 5 integers"),
    "a huge result": (
        RESULT,
        lambda text: text.replace("[2", "[2" + "0" * 40),
        "it does not hold 5 integers",
    ),
    "no results": (RESULT, lambda text: "", "it does not hold 5 integers"),
}


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The program of the usual line of the table, with the compiler's checks where it has them."""
    if reason := c.unavailable():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("program")
    for name, text in c.sources(write(folder / "pack", *USUAL)).items():
        (folder / name).write_text(text)
    build = [*programs.c_compiler(), "-std=c99", "-o", folder / "replay", *folder.glob("*.c")]
    for flags in (["-fsanitize=address,undefined", "-fno-sanitize-recover=all"], []):
        if subprocess.run([*build, *flags], capture_output=True, check=False).returncode == 0:
            return folder / "replay"
    raise AssertionError("the program does not compile")


def run(program, *arguments):
    """What it does."""
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_file_is_named_and_nothing_is_confirmed(case, program, tmp_path):
    """Exit status 2, the file and what is wrong with it on stderr, no RESULT line, no crash."""
    file, change, why = DAMAGE[case]
    write(tmp_path, *USUAL)
    before = (tmp_path / file).read_bytes().decode()
    (tmp_path / file).write_bytes(change(before).encode())
    assert (tmp_path / file).read_bytes().decode() != before
    done = run(program, tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"ERROR {file}: {why}")
    assert done.stderr.count("\n") == 1
    assert "RESULT" not in done.stdout


@pytest.mark.parametrize("file", contents([], [], "n"))
def test_a_missing_file_is_named(file, program, tmp_path):
    """Whatever its role."""
    write(tmp_path, *USUAL)
    (tmp_path / file).unlink()
    done = run(program, tmp_path)
    assert (done.returncode, done.stderr) == (2, f"ERROR {file}: it is missing\n")
    assert "RESULT" not in done.stdout


@compiled
def test_all_damaged_parameters_are_named_at_once(tmp_path, work):
    """`verify` raises them, a problem a file."""
    pack = write(tmp_path / "pack", *USUAL)
    (pack.folder / "bias/n.mem").unlink()
    (pack.folder / WEIGHTS).write_text("3\n")
    with pytest.raises(Damaged) as caught:
        c.verify(pack, ["s"], work)
    assert caught.value.problems == (
        Problem(WEIGHTS, "line 2 is missing or cut off"),
        Problem("bias/n.mem", "it is missing"),
    )


def test_unknown_samples_and_no_pack_are_refused(program, tmp_path):
    """With the exit status of a damaged file."""
    write(tmp_path, *USUAL)
    unknown = run(program, tmp_path, "s", "t")
    assert (unknown.returncode, unknown.stderr) == (2, "ERROR manifest.json: it has no sample t\n")
    assert "RESULT" not in unknown.stdout
    bare = run(program)
    assert (bare.returncode, bare.stderr) == (2, "usage: replay PACK [SAMPLE...]\n")


def test_a_sample_that_is_named_is_replayed_once_more_each_time(program, tmp_path):
    """The stimulus is read anew, and counted anew."""
    write(tmp_path, *USUAL)
    assert run(program, tmp_path, "s", "s").stdout == "RESULT checked=90 mismatch=0\n"


# Programs that end otherwise --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("exit 0", "its report is not whole: it printed nothing"),
        ("kill -SEGV $$", "it ended with status -11: it said nothing"),
        ("echo RESULT checked=45 mismatch=0; exit 1", "it ended with status 1 against its own report"),
        ("echo RESULT checked=44 mismatch=0", "it checked 44 values, not 45"),
    ],
)
def test_a_program_that_ends_otherwise_is_no_agreement(script, why, monkeypatch, tmp_path, work):
    """A compiler that makes shell scripts stands in for a machine that is broken."""
    (tmp_path / "made").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "made").chmod(0o755)
    (tmp_path / "compiler").write_text(f'#!/bin/sh\ncp "{tmp_path}/made" "{work}/replay"\n')
    (tmp_path / "compiler").chmod(0o755)
    monkeypatch.setenv("CC", str(tmp_path / "compiler"))
    with pytest.raises(Damaged) as caught:
        c.verify(write(tmp_path / "pack", *USUAL), ["s"], work)
    assert str(caught.value) == f"replay.c: {why}"
