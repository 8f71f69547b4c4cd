"""The command line as a whole: help without torch, names, exit codes, and errors as three lines or JSON."""

import errno
import importlib.util
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass

import click
import pytest

from ann2snn_cli.__main__ import main
from ann2snn_cli.commands import COMMANDS, LazyGroup, render
from ann2snn_cli.commands.options import json_option, settings_options
from ann2snn_cli.commands.render import ProgressBar, emit, percent, to_json
from ann2snn_cli.commands.tables import table
from ann2snn_cli.errors import BadFile, HardwareViolations, UsageError, VerificationMismatch


@dataclass(frozen=True)
class Broken:
    """A violation as a rule would report it."""

    rule: str
    layer: str
    actual: int = 64
    limit: int = 28
    remedy: str = "at most 28 input channels"


@pytest.fixture
def plant(monkeypatch):
    """Put a function in the place of the command `convert`; it gets `settings` and `as_json`."""

    def put(function, *sections: str, **options) -> None:
        command = click.command()(json_option(settings_options(*sections, **options)(function)))
        monkeypatch.setattr(LazyGroup, "get_command", lambda self, ctx, name: command)

    return put


@pytest.fixture
def fails(plant):
    """Make the command `convert` raise."""

    def with_error(error: BaseException) -> None:
        def function(settings, as_json):
            raise error

        plant(function)

    return with_error


def python(*words: str, **options) -> subprocess.CompletedProcess:
    """Run in a fresh interpreter, as a user would."""
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, **options)


def test_help_shows_every_command_in_order_and_the_exit_codes():
    """`ann2snn --help` and a bare `ann2snn` say what there is, on stdout."""
    done = python("-m", "ann2snn_cli", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    positions = [done.stdout.index(f"  {name} ") for name in COMMANDS]
    assert positions == sorted(positions)
    assert "130  interrupted" in done.stdout
    assert python("-m", "ann2snn_cli").stdout == done.stdout


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["no-such-command"]])
def test_help_is_quick_and_imports_no_torch(words):
    """Nothing heavy is imported before a command is called (torch alone costs seconds)."""
    code = (
        "import sys, time; begin = time.perf_counter(); from ann2snn_cli.__main__ import main\n"
        f"main({words!r}); heavy = {{'torch', 'numpy', 'onnx', 'matplotlib', 'sklearn'}} & set(sys.modules)\n"
        "print(heavy, time.process_time(), file=sys.stderr)"
    )
    begin = time.perf_counter()
    heavy, seconds = python("-c", code).stderr.strip().splitlines()[-1].split(" ")
    assert heavy == "set()"
    assert float(seconds) < 0.5, f"{time.perf_counter() - begin:.2f} s in all"


UNUSED = {"torchvision", "sklearn", "scipy", "pandas", "matplotlib", "onnx", "onnxruntime", "nir"}


@pytest.mark.parametrize(
    ("words", "unused"),
    [
        (("check", "example_net", "--hardware", "v1"), UNUSED),
        (("inspect", "example_net_snn.pth"), UNUSED | {"torch._dynamo", "sympy"}),
        (("simulate", "example_net_snn.pth"), UNUSED | {"torch._dynamo", "sympy"}),
        (("verify", "example_net_snn_pack", "--backend", "c", "--sample", "zeros"), UNUSED | {"torch"}),
    ],
    ids=["check", "inspect", "simulate", "verify"],
)
def test_a_command_imports_only_what_it_uses(example, words, unused):
    """What reads networks, draws pictures or writes other formats is loaded where that is done."""
    code = (
        "import sys; from ann2snn_cli.__main__ import main\n"
        f"code = main({words!r})\n"
        f"print(code, sorted({unused!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = python("-c", code, cwd=example[0])
    assert done.stderr.strip().splitlines()[-1] in ("0 []", "3 []"), done.stderr


def test_the_help_of_every_command_imports_no_torch():
    """Commands import the library inside their function, so their help and their usage errors are quick."""
    there = [name for name in COMMANDS if importlib.util.find_spec(_module(name))]
    assert {"ls", "cp", "env"} <= set(there)
    code = (
        "import sys; from ann2snn_cli.__main__ import main\n"
        "for name in sys.argv[1:]:\n"
        "    assert main([name, '--help']) == 0\n"
        "    assert 'torch' not in sys.modules, name"
    )
    done = python("-c", code, *there)
    assert done.returncode == 0, done.stderr


def test_a_commands_short_help_is_the_first_line_of_its_help():
    """The table of commands is written down beside them; this keeps the two alike."""
    there = [name for name in COMMANDS if importlib.util.find_spec(_module(name))]
    for name in there:
        command = importlib.import_module(_module(name)).command
        assert command.help.strip().startswith(COMMANDS[name]), name


def _module(name: str) -> str:
    return f"ann2snn_cli.commands.{name.replace('-', '_')}"


def test_the_version_is_printed(capsys):
    """One line, fit for a script."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("ann2snn ")


@pytest.mark.parametrize("name", ["analyse-error", "analyse_error"])
def test_a_commands_name_takes_hyphens_and_underscores(name, monkeypatch, capsys):
    """`ann2snn analyse_error` is `ann2snn analyse-error`."""
    asked = []
    command = click.command()(lambda: click.echo("ran"))
    monkeypatch.setattr(
        "ann2snn_cli.commands.importlib.import_module",
        lambda module: asked.append(module) or _Holder(command),
    )
    assert main([name]) == 0
    assert set(asked) == {"ann2snn_cli.commands.analyse_error"}
    assert capsys.readouterr().out == "ran\n"


@dataclass
class _Holder:
    command: click.Command


@pytest.mark.parametrize("flag", ["--weight_bitwidth", "--weight-bitwidth"])
def test_a_flag_takes_hyphens_and_underscores(flag, plant, capsys):
    """Both spellings set the same setting."""
    plant(lambda settings, as_json: click.echo(settings.quantize.weight_bitwidth), "quantize")
    assert main(["convert", flag, "3"]) == 0
    assert capsys.readouterr().out == "3\n"


def test_flags_become_settings_and_what_is_not_given_does_not(plant, capsys, tmp_path):
    """A flag beats --set and --config; a flag that is not given leaves theirs alone."""
    (tmp_path / "my.yaml").write_text(
        "timing: {timesteps: 2}\nneurons: {reset_mode: zero}\nfold: {batch_norm: no}\n"
    )
    seen = []
    sections = ("network", "timing", "neurons", "fold", "check", "finetune")
    plant(lambda settings, as_json: seen.append(settings), *sections)
    words = ["convert", "lenet", "--config", str(tmp_path / "my.yaml"), "--set", "timing.timesteps=3"]
    assert main([*words, "-e", "0", "--allow", "a", "--allow", "b"]) == 0
    assert main([*words, "-T", "4", "--batch_norm"]) == 0
    first, second = seen
    assert (first.network, first.timing.timesteps, first.neurons.reset_mode) == ("lenet", 3, "zero")
    assert (first.fold.batch_norm, first.finetune.epochs, first.check.allow) == (False, 0, ("a", "b"))
    assert (second.timing.timesteps, second.fold.batch_norm, second.finetune.epochs) == (4, True, 5)


def test_a_command_may_take_one_setting_of_a_section(plant, capsys):
    """Its flag is there, those of its neighbours are not: what would do nothing is refused."""
    plant(lambda settings, as_json: click.echo(settings.run.seed), "run.seed")
    assert main(["convert", "--seed", "3"]) == 0
    assert capsys.readouterr().out == "3\n"
    assert main(["convert", "--engine", "reference"]) == 2


@pytest.mark.parametrize("command", ["train", "check", "inspect"])
def test_commands_that_step_no_snn_take_no_engine(command, capsys):
    """An option that does nothing is no option."""
    assert main([command, "example_net", "--engine", "reference"]) == 2
    assert "no such option: --engine" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["check", "convert", "inspect", "simulate", "train", "verify"])
def test_the_example_of_set_is_one_that_the_command_takes(command, capsys):
    """The help of `--set` names a setting that does something there, and does not refuse it itself."""
    assert main([command, "--help"]) == 0
    word = re.search(r"such as\s+(\S+=\S+?);", capsys.readouterr().out).group(1)
    assert main([command, "of_that_name", "--set", word]) == 2
    assert "does nothing here" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ("simulate", "a.pth", "--set", "quantize.weight_bitwidth=3"),
        ("train", "example_net", "--set", "quantize.weight_bitwidth=3"),
        ("check", "example_net", "--set", "timing.timesteps=3"),
        ("convert", "example_net", "-e", "0", "--finetune_lr", "0.1"),
        ("convert", "example_net", "-e", "0", "--set", "finetune.wd=0.1"),
    ],
)
def test_a_setting_that_does_nothing_is_refused(words, capsys):
    """By its name and place, before any work: the one who gave it believes that it does something."""
    assert main(list(words)) == 2
    text = capsys.readouterr().err
    assert " does nothing" in text
    assert "remedy: leave it out" in text


def test_a_flag_of_another_command_is_no_misspelling(capsys):
    """`--timesteps` is known, but a network that is converted has its T."""
    assert main(["simulate", "a.pth", "--timesteps", "3"]) == 2
    assert "leave it out: ann2snn simulate does not use that setting" in capsys.readouterr().err


def test_a_config_may_serve_several_commands(plant, capsys, tmp_path):
    """What stands there for another command is said once, and is no mistake."""
    path = tmp_path / "my.yaml"
    path.write_text("timing: {timesteps: 2}\nquantize: {weight_bitwidth: 3}\nrun: {seed: 1, device: cpu}\n")
    plant(lambda settings, as_json: click.echo(settings.run.seed), "run.seed", "fold")
    assert main(["convert", "--config", str(path)]) == 0
    done = capsys.readouterr()
    assert done.out == "1\n"
    assert done.err == (
        f"note: {path} also sets timing, quantize, run.device, which ann2snn convert does not use\n"
    )


def test_a_missing_network_is_a_usage_error_unless_there_is_a_default(plant, capsys):
    """`ann2snn convert` without a name says how to give one."""
    plant(lambda settings, as_json: click.echo(settings.network), "network")
    assert main(["convert"]) == 2
    assert "no network is named" in capsys.readouterr().err
    plant(lambda settings, as_json: click.echo(settings.network), "network", default_network="example_net")
    assert main(["convert"]) == 0
    assert capsys.readouterr().out == "example_net\n"


def test_all_wrong_flags_are_listed_at_once(plant, capsys):
    """Click would stop at the first."""
    plant(lambda settings, as_json: None, "quantize", "timing")
    assert main(["convert", "--timesteps", "0", "--weight_bitwidth", "9"]) == 2
    text = capsys.readouterr().err
    assert "--timesteps" in text
    assert "--weight_bitwidth" in text


def test_the_options_of_a_command_show_their_help_and_defaults(plant, capsys):
    """The words of `config` reach --help."""
    plant(lambda settings, as_json: None, "quantize", "timing", "fold", "run")
    assert main(["convert", "--help"]) == 0
    text = capsys.readouterr().out
    assert "--weight_bitwidth N" in text
    assert "[default: 16]" in text
    assert "[default: 0]" in text
    assert "--schedule auto|stepwise|layerwise" in text
    assert "--delay N" in text
    assert "--batch_norm / --no_batch_norm" in text
    assert "--finetune_epochs" not in text


@pytest.mark.parametrize(
    ("error", "code", "lines"),
    [
        (BadFile("it is cut", where="a.pth", remedy="copy it again"), 1, "it is cut|a.pth|copy it again"),
        (UsageError("no such thing", remedy="name another"), 2, "no such thing||name another"),
        (HardwareViolations("2 limits", [Broken("in_channels", "conv1")]), 3, "2 limits||"),
        (VerificationMismatch("they differ", where="conv1"), 4, "they differ|conv1|"),
        (KeyboardInterrupt(), 130, "interrupted||"),
        (
            OSError(errno.ENOSPC, "No space left on device", "x.pth"),
            1,
            "No space left on device|x.pth|free some",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "d"),
            1,
            "Permission denied|d|choose a file or folder",
        ),
        (OSError(errno.EROFS, "Read-only file system", "d"), 1, "Read-only file system|d|choose a folder"),
        (MemoryError(), 1, "out of memory||lower --batch_size"),
        (ZeroDivisionError("by zero\nmore"), 1, "a fault of ann2snn itself: ZeroDivisionError: by zero|"),
        (EOFError("cut"), 1, "a fault of ann2snn itself: EOFError: cut|"),
    ],
)
def test_an_error_is_what_where_remedy_and_an_exit_code(error, code, lines, fails, capsys):
    """On stderr, without a traceback; with --json one document on stdout says the same."""
    fails(error)
    assert main(["convert"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    for label, text in zip(["error: ", "  where: ", "  remedy: "], lines.split("|"), strict=False):
        assert not text or label + text in err
    assert main(["convert", "--json"]) == code
    out = capsys.readouterr().out
    document = json.loads(out)
    assert document["schema"] == "ann2snn/error/1"
    assert list(document["error"]) == ["what", "where", "remedy"]
    assert document["error"]["what"].startswith(lines.partition("|")[0])


def test_violations_are_listed_in_text_and_json(fails, capsys):
    """Every broken limit reaches the user, whichever way the output goes."""
    fails(HardwareViolations("2 limits", [Broken("in_channels", "conv1"), Broken("ops", "pool")]))
    main(["convert"])
    text = capsys.readouterr().err
    assert "\n  - conv1: in_channels is 64, the limit 28; at most 28 input channels\n  - pool: ops" in text
    main(["convert", "--json"])
    hardware = json.loads(capsys.readouterr().out)["hardware"]
    assert hardware["ok"] is False
    assert hardware["violations"][1] == asdict(Broken("ops", "pool"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["convrt"], "did you mean convert?"),
        (["xyz"], "choose from: train, convert"),
        (["--no-such"], "no such option"),
        (["ls", "--jsn"], "did you mean --json?"),
        (["cp"], "see `ann2snn cp --help`"),
        (["env", "word"], "unexpected extra argument"),
    ],
)
def test_a_usage_error_exits_2_in_the_same_shape(words, said, capsys):
    """Click's errors look like all others, in text and as JSON."""
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert "remedy: " in err
    assert said in err
    assert main([*words, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["remedy"]


def test_a_traceback_is_shown_on_request(fails, capsys, monkeypatch):
    """ANN2SNN_TRACEBACK=1 is the remedy that a fault of the tool names."""
    fails(ZeroDivisionError())
    main(["convert"])
    assert "ANN2SNN_TRACEBACK=1" in capsys.readouterr().err
    monkeypatch.setenv("ANN2SNN_TRACEBACK", "1")
    main(["convert"])
    assert "Traceback" in capsys.readouterr().err


def test_json_shares_stdout_with_nothing(plant, capsys):
    """Whatever a library prints while a command runs goes to stderr; stdout parses."""

    def function(settings, as_json):
        print("Downloading ...")
        emit({"schema": "ann2snn/x/1", "value": float("nan")}, as_json, lambda: "text")

    plant(function)
    assert main(["convert", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {"schema": "ann2snn/x/1", "value": None}
    assert "Downloading" in err


def test_a_command_may_choose_its_exit_code(plant):
    """It returns the number (`check` prints its table and gives 3)."""
    plant(lambda settings, as_json: 3)
    assert main(["convert"]) == 3


def test_a_reader_that_goes_away_is_no_error():
    """`ann2snn ... | head -1` ends quietly."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "ann2snn_cli", "--help"], stdout=writer, stderr=subprocess.PIPE, text=True
    )
    os.close(writer)
    assert done.stderr == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full device")
@pytest.mark.parametrize("to", [">&-", ">/dev/full", "2>&-", "2>/dev/full", ">&- 2>&-"])
@pytest.mark.parametrize("words", ["ls --json", "ls", "ls nonsense --json"])
def test_streams_that_are_closed_or_full_are_no_fault(to, words):
    """No traceback; a result that cannot be written is an error, progress that cannot be is none."""
    command = f'"$PYTHON" -m ann2snn_cli {words} {to}'
    shell = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, env=shell)
    assert "Traceback" not in done.stderr
    assert "fault" not in done.stderr
    lost = words != "ls nonsense --json" and to == ">/dev/full"
    assert done.returncode == (2 if "nonsense" in words else 1 if lost else 0), done.stderr
    if "1" not in to and not to.startswith(">"):
        assert done.stdout.startswith("networks" if words == "ls" else "{")


def test_work_goes_on_where_nobody_can_be_told_of_its_progress(monkeypatch):
    """A log on a full disk, or a reader that went away, ends no conversion."""

    class Full(io.StringIO):
        def write(self, text):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "stderr", Full())
    with ProgressBar() as progress:
        progress.begin("calibrate", 2)
        progress.advance()
        progress.line("note")


@pytest.mark.parametrize("json_flag", [(), ("--json",)])
def test_sigterm_ends_a_command_as_ctrl_c_does(json_flag, plant, capsys):
    """Exit code 143, one line, no traceback; one document with --json; afterwards the signal is as it was."""
    before = signal.getsignal(signal.SIGTERM)
    plant(lambda settings, as_json: signal.raise_signal(signal.SIGTERM))
    assert main(["convert", *json_flag]) == 143
    out, err = capsys.readouterr()
    assert err.strip() == "error: terminated"
    assert not json_flag or json.loads(out)["error"]["what"] == "terminated"
    assert signal.getsignal(signal.SIGTERM) is before


def test_tables_are_aligned():
    """Words to the left, numbers to the right, a dash for nothing."""
    text = table(["layer", "rate"], [["conv1", 0.12345], ["a", None]])
    assert text.splitlines() == ["layer    rate", "-----  ------", "conv1  0.1235", "a           -"]
    assert percent(0.97111) == "97.11 %"
    assert percent(None) == percent(float("nan")) == "-"


def test_json_numbers_stay_json():
    """NaN and infinity, which JSON cannot say, become null at any depth."""
    assert json.loads(to_json({"a": [float("inf"), {"b": float("nan")}], "c": 1.5})) == {
        "a": [None, {"b": None}],
        "c": 1.5,
    }


def test_progress_is_lines_where_there_is_no_terminal(capsys):
    """A log gets a line a part and what it is told, and no bar; stdout gets nothing."""
    with ProgressBar() as progress:
        progress.begin("finetune", steps=2)
        progress.advance()
        progress.line("epoch 1/1  loss 0.5")
    out, err = capsys.readouterr()
    assert (out, err) == ("", "finetune\nepoch 1/1  loss 0.5\n")


def wait_for(text: str, capsys, seconds: float = 5.0) -> str:
    """What stderr says until the text is in it."""
    said, end = "", time.monotonic() + seconds
    while text not in said:
        assert time.monotonic() < end, f"{text!r} is not in {said!r}"
        time.sleep(0.01)
        said += capsys.readouterr().err
    return said


def test_a_log_is_told_the_time_while_nothing_else_is_said(capsys):
    """Where a step takes longer than the interval, lines say how far it is, and the time gone and left."""
    with ProgressBar(seconds=0.05) as progress:
        progress.begin("evaluate", 40, "samples")
        said = wait_for("evaluate: 0 of 40 samples, 00:00 elapsed\n", capsys)
        progress.advance(10)
        said += wait_for("evaluate: 10 of 40 samples, 00:00 elapsed\n", capsys)
        assert "left" not in said, "nobody knows before the second batch: the first one warms up"
        progress.advance(10)
        wait_for("evaluate: 20 of 40 samples, 00:00 elapsed, a few seconds left\n", capsys)
        progress.begin("write ONNX")
        wait_for("write ONNX: 00:00 elapsed\n", capsys)
    capsys.readouterr()
    time.sleep(0.15)
    assert capsys.readouterr().err == "", "nothing is said when the work is over"


def test_the_remaining_time_does_not_jump():
    """A first batch that warms up counts nothing, and a single slow one little: the usual pace decides."""
    part, told, now = render._Part("evaluate", 6000, "samples", 0.0), [], 0.0
    for seconds in (20.0, 1.0, 1.1, 0.9, 30.0, 1.0, 1.0):
        now += seconds
        part.advance(10, now)
        told.append(part.left())
    assert told == ["", *["about 10 min left"] * 6]


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(4, "a few seconds"), (27, "about 25 s"), (89, "about 90 s"), (200, "about 3 min"), (7300, "about 2 h")],
)
def test_an_estimate_is_no_finer_than_it_is_known(seconds, told):
    """No seconds of an hour."""
    assert render.coarsely(seconds) == told


def test_the_time_is_told_within_15_seconds_and_not_after_a_line_that_was_said(capsys):
    """A log that speaks anyway needs no clock."""
    assert ProgressBar()._seconds <= 15
    with ProgressBar(seconds=0.2) as progress:
        progress.begin("finetune", 1000)
        for epoch in range(10):
            time.sleep(0.03)
            progress.line(f"epoch {epoch}")
    assert "elapsed" not in capsys.readouterr().err


def test_a_signal_after_the_results_changes_nothing():
    """Ctrl-C while Python closes down: the exit code is that of the command, and nothing more is printed."""
    code = (
        "import atexit, os, signal, sys; from ann2snn_cli.__main__ import run\n"
        "sys.argv = ['ann2snn', '--version']\n"
        "atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))\n"
        "run()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
