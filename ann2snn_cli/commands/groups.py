"""How the help of a command lists its options: under headings, in the order of the work."""

from __future__ import annotations

import functools

import click

# By heading: sections of settings, and options of commands that belong to none.
GROUPS = {
    "Input": (
        "network", "ann_weight", "allow_other_dataset", "rules", "data", "corners", "names", "samples",
        "spiking_layers",
    ),
    "Training": ("epochs", "optimizer", "lr", "wd", "augment", "bf16"),
    "Quantization": ("fold", "calibrate", "modes", "quantize"),
    "Finetuning": ("finetune", "resume"),
    "Spikes": ("timing", "latency", "neurons", "schedule", "delay", "seed"),
    "Chip": ("check",),
    "Comparison": ("backends", "faults", "max_clocks"),
    "Run": ("run",),
    "Output": (
        "save", "save_file", "save_dir", "output_dir", "formats", "flavor", "replay", "layers", "steps",
        "potentials", "overwrite",
    ),
    "Settings from elsewhere": ("config", "overrides", "show_config"),
}  # fmt: skip
OTHERS = "Messages"  # what is printed, and what the exit code says of it


class GroupedCommand(click.Command):
    """A command whose help has a heading for each kind of option."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, heading by heading."""
        found: dict[str, list[tuple[str, str]]] = {heading: [] for heading in (*GROUPS, OTHERS)}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record and record[1]:  # an argument stands in the line of usage
                found[_heading(parameter.name or "")].append(record)
        for heading, records in found.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


def _heading(parameter: str) -> str:
    """That of the section which the parameter is a setting of, or its own."""
    name = parameter.partition("__")[0]
    return next((heading for heading, names in GROUPS.items() if name in names), OTHERS)


grouped = functools.partial(click.command, cls=GroupedCommand)  # instead of click.command
