"""Which ann2snn this is."""

from importlib.metadata import PackageNotFoundError, version


def tool_version() -> str:
    """The version of the installed package."""
    try:
        return version("ann2snn")
    except PackageNotFoundError:
        return "(not installed)"


def tool() -> str:
    """The name and version that files of ours carry."""
    return f"ann2snn {tool_version()}"
