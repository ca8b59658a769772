"""Packages that only some people need: what brings each of them, and one line where it is missing."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping

from factory.errors import InputError

EXTRAS: Mapping[str, str] = {"peft": "tune", "setfit": "setfit", "vllm": "vllm", "ray": "ray"}
"""Package -> the extra that installs it."""


def install(package: str) -> str:
    """The command that installs it."""
    return f'pip install "label-factory[{EXTRAS[package]}]"'


def is_there(package: str) -> bool:
    """Whether it is installed, without importing it."""
    if package in sys.modules:
        return sys.modules[package] is not None
    return importlib.util.find_spec(package) is not None


def need(package: str, what: str) -> None:
    """Look whether it is installed, without importing it.

    Args:
        package: A key of `EXTRAS`.
        what: What needs it, as a person named it: "`tune`".

    Raises:
        InputError: It is not.
    """
    if not is_there(package):
        raise InputError(f"{what} needs {package}, which is not installed", fix=f"Run: {install(package)}")
