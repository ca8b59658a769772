"""Where the shipped text files lie: `prompts/`, `pipelines/` and `warehouse/`, in a checkout and in an installed wheel alike."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def shipped(kind: str) -> Path:
    """The folder of shipped files of one kind.

    Args:
        kind: `"prompts"`, `"pipelines"` or `"warehouse"`.

    Returns:
        The folder inside the wheel if this is an installed wheel, else the one at the root of the checkout.
    """
    inside = _PACKAGE / "_shipped" / kind
    return inside if inside.is_dir() else _PACKAGE.parent / kind
