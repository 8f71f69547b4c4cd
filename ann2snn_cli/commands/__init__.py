"""The command line: parse, one library call, render. One file a command.

A command's module is imported when the command is called, never for `ann2snn --help` (torch costs seconds),
and holds a click command named `command`. Its own imports of the library stand inside the function, so that
`ann2snn COMMAND --help` and a usage error are quick too.
"""

from __future__ import annotations

import importlib
from difflib import get_close_matches
from typing import Any

import click

from ann2snn_cli.errors import UsageError
from ann2snn_cli.version import tool

# In the order of the work. The words are the command's own short help, so that help needs no import.
COMMANDS = {
    "train": "Train a network and write its checkpoint.",
    "convert": "Turn a trained network into a checked, integer SNN and its test vectors.",
    "check": "List every limit of a chip that a network breaks.",
    "validate": "Score a network or a converted network by itself: top-1, loss, firing rates.",
    "simulate": "Run a converted network: accuracy against time, firing rates.",
    "export": "Write a converted network for others: vector pack, ONNX, NIR, C, Verilog.",
    "verify": "Replay a vector pack with independent twins and compare every spike and potential.",
    "diff": "Find the first difference between two vector packs, or a pack and a simulator's log.",
    "inspect": "Show the graph of a network or of a converted network.",
    "analyse-error": "Show where a conversion loses accuracy, as pictures and tables.",
    "compare-modes": "Draw accuracy against time for each way of setting thresholds.",
    "compare-delays": "Draw accuracy against latency for numbers of timesteps and firing delays.",
    "neuron": "Draw the firing rate and the spikes of one neuron.",
    "ls": "List networks, datasets, configs, hardware and checkpoints.",
    "cp": "Copy a bundled file here, to edit it.",
    "env": "Print versions and devices, ready to paste into a report.",
}

EXIT_CODES = """\b
Exit codes:
  0    ok
  1    error
  2    usage: a wrong name, value or setting, or an option that does nothing
  3    violation: a limit of the hardware is broken, or (--strict) the damage is too large
  4    verification mismatch: two implementations of the arithmetic disagree
  130  interrupted (Ctrl-C)
  143  terminated (SIGTERM)

Results go to stdout, progress to stderr; with --json, stdout is exactly one JSON document, also on failure.
Words in flags may be joined by hyphens or underscores: --weight_bitwidth, --weight-bitwidth.
"""


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports only the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the work."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, imported now; None if there is none."""
        name = cmd_name.replace("_", "-")
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Click's own, but for an unknown name, which is answered in the shape of all our errors."""
        name = args[0].replace("_", "-")
        if name not in COMMANDS and not name.startswith("-"):
            near = get_close_matches(name, COMMANDS, n=1)
            meant = f"did you mean {near[0]}? " if near else ""
            raise UsageError(
                f"unknown command {args[0]!r}", remedy=f"{meant}choose from: {', '.join(COMMANDS)}"
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table of commands, from their names alone."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _underscored(token: str) -> str:
    return token.replace("-", "_")


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(tool())
        ctx.exit()


CONTEXT: dict[str, Any] = {
    "token_normalize_func": _underscored,
    "help_option_names": ["-h", "--help"],
    "max_content_width": 110,
}


@click.group(cls=LazyGroup, context_settings=CONTEXT, epilog=EXIT_CODES)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version,
    help="Show the version and exit.",
)  # fmt: skip
def cli() -> None:
    """Turn a trained network (ANN) into a spiking network (SNN) that a neuromorphic chip can run.

    \b
    ann2snn convert example_net --weight_bitwidth 4 --timesteps 16
    """
