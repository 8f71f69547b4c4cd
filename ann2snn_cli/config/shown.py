"""The settings of a run as they are shown: YAML that `--config` takes back, and where each comes from."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import yaml

from ann2snn_cli.config.settings import KEYS, Settings, as_dict

DEFAULT = "default"


def origins_of(given: Mapping[str, str], used: Collection[str]) -> dict[str, str]:
    """Where each setting that is used comes from, by dotted name."""
    return {dotted: given.get(dotted, DEFAULT) for dotted in KEYS if dotted in used}


def with_origins(settings: Settings, origins: Mapping[str, str]) -> str:
    """The settings named in `origins`, a line each; a comment says where it comes from."""
    lines, tree, section = list[tuple[str, str]](), as_dict(settings), ""
    for dotted, origin in origins.items():
        key = KEYS[dotted]
        if key.section != section:
            lines.append((f"{key.section}:", ""))
            section = key.section
        value = tree[key.section][key.name] if key.section else tree[key.name]
        text = f"{'  ' * bool(key.section)}{key.name}: {_flow(value)}"
        lines.append((text, f"# {' '.join(origin.split())}"))
    width = max((len(text) for text, origin in lines if origin), default=0)
    return "\n".join(f"{text.ljust(width)}  {origin}".rstrip() for text, origin in lines)


def _flow(value: Any) -> str:
    """A value on one line, as YAML writes it."""
    text: str = yaml.safe_dump([value], default_flow_style=True, allow_unicode=True, width=10_000)
    return text.strip()[1:-1]
