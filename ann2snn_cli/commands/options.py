"""Options that several commands share. Those of settings are made from the words in `config`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from ann2snn_cli.commands.flags import in_flags
from ann2snn_cli.commands.names import completion, refuse_unknown
from ann2snn_cli.commands.render import Loudness, emit, say, set_loudness
from ann2snn_cli.config import (
    KEYS,
    Key,
    Schedule,
    Settings,
    as_dict,
    origins_of,
    resolved,
    unused,
    with_origins,
)
from ann2snn_cli.config.kinds import KINDS
from ann2snn_cli.config.sources import Resolved
from ann2snn_cli.errors import Setting, UsageError

Callback = Callable[..., Any]
Decorator = Callable[[Callback], Callback]

METAVARS: dict[Any, str] = {int: "N", float: "X", str: "TEXT", tuple[str, ...]: "NAME", int | None: "N"}
EXAMPLES = (
    "quantize.weight_bitwidth=3",
    "data.test_batch_size=64",
    "data.dataset=digits",
)  # the first that is used
UNSAID: tuple[Any, ...] = ("", (), None)  # defaults that the help says in words

json_option: Decorator = click.option(
    "--json", "as_json", is_flag=True, help="Print exactly one JSON document on stdout."
)
overwrite_option: Decorator = click.option(
    "--overwrite", is_flag=True, help="Replace what lies there, even if this tool did not write it."
)


def report_options(command: Callback) -> Callback:
    """Give a command that takes its time `--json`, `-q` and `-v`."""

    def told(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
        if wanted:
            set_loudness(context, Loudness.QUIET if parameter.name == "quiet" else Loudness.VERBOSE)

    quiet = click.option(
        "-q", "--quiet", is_flag=True, expose_value=False, callback=told,
        help="Nothing on stderr but errors; the result is on stdout.",
    )  # fmt: skip
    verbose = click.option(
        "-v", "--verbose", is_flag=True, expose_value=False, callback=told,
        help="More on stderr: the settings that were given, and how long each part took.",
    )  # fmt: skip
    return json_option(quiet(verbose(command)))


def delay_options(command: Callback) -> Callback:
    """Give a command on a saved SNN `--schedule` and `--delay`: another firing delay than its own."""

    def named(context: click.Context, parameter: click.Parameter, word: str | None) -> Schedule | None:
        return None if word is None else Schedule(word)

    schedule = click.option(
        "--schedule", type=click.Choice([each.value for each in Schedule]), callback=named,
        help="stepwise: a delay of 0; layerwise: a delay of T.  [default: the SNN's own delay]",
    )  # fmt: skip
    delay = click.option(
        "--delay", type=click.IntRange(0), metavar="D",
        help="Steps a layer integrates before it may fire, 0 to T.  [default: the SNN's own]",
    )  # fmt: skip
    return schedule(delay(command))


def settings_options(*names: str, default_network: str = "") -> Decorator:
    """Give a command the flags of these sections, `--config` and `--set`; it gets the resolved `settings`.

    A name is a section (`"quantize"`), one setting of it (`"run.seed"`) or one of the top level: `"network"`
    becomes the argument NETWORK, which must then be given there or in the config unless there is a
    `default_network`. A flag or a `--set` of another setting is refused; in a config they may stand, for
    another command, and that is said.
    """
    chosen = [key for key in KEYS.values() if {key.section or key.name, key.dotted} & set(names)]

    def decorate(command: Callback) -> Callback:
        @functools.wraps(command)
        def with_settings(
            *args: Any, config: str | None, overrides: tuple[str, ...], show_config: bool, **values: Any
        ) -> Any:
            every = {key.dotted: values.pop(_parameter(key)) for key in chosen}
            flags = {key.dotted: every[key.dotted] for key in chosen if _was_given(key)}
            _refuse_empty(flags)
            path, used = _config_path(config), [key.dotted for key in chosen]
            found = resolved(path, overrides, flags, used)
            if show_config:
                return _show_config(found, used, as_json=values["as_json"])
            if path and (others := unused(path, used)):
                say(f"note: {path} also sets {', '.join(others)}, which {_this_command()} does not use")
            for dotted, origin in found.origins.items():
                value = KEYS[dotted].of(found.settings)
                say(f"{dotted} is {value}, from {_origin(dotted, origin)}", Loudness.VERBOSE)
            settings = found.settings
            if "run.threads" in used and settings.run.threads:
                _use_threads(settings.run.threads)
            if "network" in names:
                settings = _with_network(settings, default_network)
            refuse_unknown(settings, used)
            return command(*args, settings=settings, **values)

        wrapped: Callback = with_settings
        for option in reversed([*map(_option, chosen), *_sources(chosen)]):
            wrapped = option(wrapped)
        return wrapped

    return decorate


def _refuse_empty(flags: dict[str, Any]) -> None:
    """A flag without text, as of a shell variable that is not set, asks for nothing."""
    for dotted, value in flags.items():
        key = KEYS[dotted]
        if key.kind is str and not value.strip():
            flag = "NETWORK" if dotted == "network" else f"--{key.flag}"
            wanted = f"; it must be {key.words}" if key.rule else ""
            raise UsageError(f"{flag} is empty{wanted}", where=flag, remedy="give a value, or leave it out")


def _show_config(found: Resolved, used: Sequence[str], *, as_json: bool) -> int:
    """Print the settings of this command and where each comes from: all that `--show_config` does."""
    origins = origins_of(found.origins, used)
    origins = {dotted: in_flags(_origin(dotted, where)) for dotted, where in origins.items()}
    document = {"schema": "ann2snn/config/1", "settings": as_dict(found.settings), "from": origins}
    emit(document, as_json, lambda: with_origins(found.settings, origins))
    return 0


def _origin(dotted: str, where: str) -> str:
    return "NETWORK" if dotted == "network" and where == str(Setting("network")) else where


def _use_threads(threads: int) -> None:
    from ann2snn_cli import devices

    devices.use_threads(threads)


def _sources(chosen: Sequence[Key]) -> list[Decorator]:
    used = {key.dotted for key in chosen}
    example = next((word for word in EXAMPLES if word.partition("=")[0] in used), "run.seed=1")
    return [
        click.option(
            "--config", metavar="FILE|NAME", help="Settings from a YAML file (`ann2snn ls configs`)."
        ),
        click.option(
            "--set",
            "overrides",
            multiple=True,
            metavar="SECTION.NAME=VALUE",
            help=f"One setting by its name in config files, such as {example}; repeatable. "
            "It is stronger than --config, and a flag is stronger.",
        ),
        click.option(
            "--show_config",
            is_flag=True,
            help="Print the settings as YAML and where each comes from, and do nothing else.",
        ),
    ]


def _option(key: Key) -> Decorator:
    """The flag of one setting. Values stay text here: `config` reads them, and collects all mistakes."""
    if key.dotted == "network":
        return click.argument("network", required=False, shell_complete=completion(key))
    words = f"{key.help[0].upper()}{key.help[1:]}."
    if key.kind in (bool, bool | None):
        sides = f"--{key.flag}/--no_{key.flag}"
        shown = "" if key.default is None else f"  [default: {'on' if key.default else 'off'}]"
        return click.option(sides, _parameter(key), default=None, help=words + shown)
    default = KINDS[key.kind].write(key.default)
    return click.option(
        *([key.short] if key.short else []),
        f"--{key.flag}",
        _parameter(key),
        type=str,
        multiple=key.kind == tuple[str, ...],
        metavar="|".join(key.choices) if key.choices else METAVARS[key.kind],
        shell_complete=completion(key),
        help=words + ("" if default in UNSAID or default == [] else f"  [default: {default}]"),
    )


def _parameter(key: Key) -> str:
    return key.dotted.replace(".", "__")


def _was_given(key: Key) -> bool:
    source = click.get_current_context().get_parameter_source(_parameter(key))
    return source is ParameterSource.COMMANDLINE


def _this_command() -> str:
    return click.get_current_context().command_path


def _config_path(name: str | None) -> Path | None:
    if name is None:
        return None
    from ann2snn_cli import catalog

    return catalog.config_file(name)


def _with_network(settings: Settings, default: str) -> Settings:
    if not settings.network and not default:
        raise UsageError(
            "no network is named",
            where=_this_command(),
            remedy="name one (`ann2snn ls` lists them), or put `network: NAME` in a config",
        )
    return settings if settings.network else replace(settings, network=default)
