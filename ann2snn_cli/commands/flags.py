"""The one place that says how a setting is spelled on the command line."""

from __future__ import annotations

from shlex import quote

from ann2snn_cli.errors import Setting, spelled


def as_flag(setting: Setting) -> str:
    """The setting as a shell takes it: `--weight_bitwidth 4`, `--overwrite`, `--no_channel_wise`."""
    flag = f"--{setting.name}"
    if setting.value is None or setting.value is True:
        return flag
    if setting.value is False:
        return f"--no_{setting.name}"
    values = setting.value if isinstance(setting.value, tuple) else (setting.value,)
    return " ".join(f"{flag} {quote(str(value))}" for value in values)


def in_flags(text: str) -> str:
    """The text with every setting in it as a flag."""
    return spelled(text, as_flag)
