"""The one place where the library `nir` is imported: it is an extra."""

from __future__ import annotations

from typing import Any

from ann2snn_cli.errors import Ann2SnnError


def library() -> Any:
    """The module `nir`."""
    try:
        import nir
    except ImportError as error:
        raise Ann2SnnError(
            "NIR files need the package nir, which is not installed", remedy='pip install "ann2snn[nir]"'
        ) from error
    return nir
