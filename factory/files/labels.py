"""What a cell of a label column says: one label, several, or none; and what may be meant where it says none of the card's."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from factory.files.values import as_text, is_missing
from factory.names import LabelNames

SEPARATORS = (";", "|", "#", ",")
_LISTS = re.compile(r"\[.*\]|\(.*\)|\{.*\}|set\(\)", re.DOTALL)
_BARE_ARRAY = re.compile(r"(['\"])\s+(['\"])")
_LONGEST_LIST = 100_000


def label_items(value: Any, separator: str | None, find: Callable[[str], str | None]) -> list[str]:
    """The labels that one cell names.

    Args:
        value: A string, a number, a boolean, a list of these, or a list written as text: JSON, Python, or numpy.
        separator: What stands between several labels in a string, or None.
        find: The card's label of a name, or None: a name that is on the card is never taken apart.
    """
    if isinstance(value, (list, tuple)):
        return [text for item in value if not is_missing(item) and (text := as_text(item).strip())]
    text = as_text(value).strip()
    if not text or find(text) is not None:
        return [text] if text else []
    listed = written_list(text)
    if listed is not None:
        return listed
    if separator:
        return [part.strip() for part in text.split(separator) if part.strip()]
    return [text]


def written_list(text: str) -> list[str] | None:
    """The items of a list that is written as text; None if it is not one.

    Example:
        >>> written_list('["a", "b"]'), written_list("['a' 'b']"), written_list("a")
        (['a', 'b'], ['a', 'b'], None)
    """
    if not _LISTS.fullmatch(text) or len(text) > _LONGEST_LIST:
        return None
    if text in ("set()", "{}"):
        return []
    if text.startswith("["):
        text = _BARE_ARRAY.sub(r"\1, \2", text)
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(found, dict):
            return None
        items = sorted(found, key=as_text) if isinstance(found, (set, frozenset)) else found
        if isinstance(items, (list, tuple)):
            return [said for item in items if not is_missing(item) and (said := as_text(item).strip())]
        return None
    if not text.startswith("["):
        return None
    return [part.strip().strip("'\"") for part in text[1:-1].split(",") if part.strip()]


def label_hint(said: str, names: Sequence[str], *, multi: bool) -> str:
    """What may be meant by a label that is not on the card, in words; empty if nothing comes to mind."""
    alike = [name for name in names if name.casefold() == said.casefold()]
    if len(alike) == 1:
        return f"did you mean {alike[0]!r}? (`labels: {{{said[:40]!r}: {alike[0]!r}}}`)"
    find = LabelNames(names)
    for mark in SEPARATORS:
        parts = [part.strip() for part in said.split(mark) if part.strip()]
        if len(parts) > 1 and all(find(part) is not None for part in parts):
            if multi:
                return f"it is {len(parts)} labels: say `label_separator: {mark!r}`"
            return f"it is {len(parts)} labels, and the card is of kind 'single'"
    if re.fullmatch(r"[+-]?\d+(\.\d+)?|true|false", said, re.IGNORECASE) and names:
        return f"say what it means with `labels: {{{said!r}: {names[0]}, ...}}`"
    return ""
