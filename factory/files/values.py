"""What a cell says: which values are missing, and how numbers, booleans and bytes read as text."""

from __future__ import annotations

import math
from decimal import Decimal
from numbers import Real
from typing import Any

MACHINE_NULLS = frozenset({"nan", "NaN", "NaT", "<NA>"})
"""How pandas writes a missing value into a file without types; nobody types these."""


def is_missing(value: Any, *, untyped: bool = False) -> bool:
    """Whether a cell holds no value: None, NaN or an infinite number, pandas' and numpy's own nulls.

    Args:
        value: As a reader gave it.
        untyped: Whether the file has no types, so that a null can only be written in words.
    """
    if value is None:
        return True
    if isinstance(value, str):
        return untyped and value.strip() in MACHINE_NULLS
    if isinstance(value, (bytes, bool, int, list, tuple, dict)):
        return False
    if type(value).__name__ in ("NAType", "NaTType"):
        return True
    if isinstance(value, Decimal):
        return not value.is_finite()
    if isinstance(value, Real):
        return not math.isfinite(value)
    return type(value).__name__ == "datetime64" and str(value) == "NaT"


def as_text(value: Any) -> str:
    """A cell as text: `42` and `42.0` are "42", `True` is "true", a missing value is "".

    Example:
        >>> [as_text(value) for value in ("a", 42, 1.0, True, None, float("nan"))]
        ['a', '42', '1', 'true', '', '']
    """
    if isinstance(value, str):
        return value
    if is_missing(value):
        return ""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, bool) or type(value).__name__ in ("bool", "bool_"):
        return "true" if value else "false"
    if isinstance(value, (Real, Decimal)) and float(value).is_integer():
        return str(int(value))  # type: ignore[arg-type]
    return str(value)


def text_fault(value: Any, column: str, *, encoding: str | None, most: int | None) -> tuple[str, str] | None:
    """Why a cell that is not missing cannot be a text, as a code and words; None if it can.

    Args:
        value: As a reader gave it.
        column: Its column, for the words.
        encoding: What the file was told to be in, for the words.
        most: Longest text in characters, or None.
    """
    if isinstance(value, (list, dict, tuple)):
        name = {"dict": "an object", "list": "a list"}.get(type(value).__name__, "a list")
        keys = ", ".join(f"`{column}.{key}`" for key in list(value)[:5]) if isinstance(value, dict) else ""
        return "broken_row", f"column {column!r} holds {name}, not a text" + (f"; name one of {keys}" if keys else "")
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            return "not_utf8", f"column {column!r} holds bytes that are not UTF-8"
    if not isinstance(value, str):
        return None
    if most is not None and len(value) > most:
        return "too_long", f"{len(value):,} characters; the limit is {most:,} (`max_chars`)"
    return surrogate_fault(value, encoding)


def surrogate_fault(value: str, encoding: str | None) -> tuple[str, str] | None:
    """Why a string cannot be written as UTF-8: bytes that did not decode, or half a character from JSON; None if it can."""
    if value.isascii():
        return None
    try:
        value.encode()
    except UnicodeEncodeError as error:
        if "\udc80" <= value[error.start] <= "\udcff":
            more = "" if encoding else "; if the whole file is so, name its `encoding:`"
            return "not_utf8", f"bytes that are not {encoding or 'UTF-8'}{more}"
        return "lone_surrogate", f"half of a surrogate pair at character {error.start + 1}"
    return None
