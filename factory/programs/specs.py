"""What a sealed child says that a program tests, every part of it checked before it is used."""

from __future__ import annotations

import json
import re
from typing import Any

from factory.programs.sandbox.views import View, checked

Spec = tuple[str, tuple[str, ...], View]
"""An observation; see `factory.programs.sandbox.observations.Spec`."""

_PLAIN = re.compile(r"(?:[A-Za-z0-9]|\\x[0-9a-f]{2}|\\[AbBz]|[\[\]|()?:,-]|\{[0-9]{1,4},(?:[0-9]{1,4})?\})*\Z")
_NUMBER = re.compile(r"[0-9]{1,9}\Z")
_OPS = {"any", "distinct", "count"}
_FOUND = {"found_any", "found_count", "found_distinct"}
_TOKENS = {"token_any", "token_distinct", "token_count"}


def specs_of(line: Any) -> list[Spec] | None:
    """A child's observations; None if there are none to trust."""
    try:
        found = json.loads(line)["learned"]
    except (TypeError, ValueError, KeyError, RecursionError):
        return None
    if not isinstance(found, list) or len(found) > 1000:
        return None
    specs = [_spec(one) for one in found]
    return None if any(spec is None for spec in specs) else [spec for spec in specs if spec is not None]


def _spec(spec: Any) -> Spec | None:
    if not (isinstance(spec, list) and len(spec) == 3 and isinstance(spec[0], str)):
        return None
    op, patterns, view = spec[0], spec[1], checked(spec[2])
    if view is None or not isinstance(patterns, list) or not patterns:
        return None
    if not all(isinstance(pattern, str) and len(pattern) < 60_000 for pattern in patterns):
        return None
    return (op, tuple(patterns), view) if _fits(op, patterns) else None


def _fits(op: str, patterns: list[str]) -> bool:
    if op in _OPS:
        return all(_PLAIN.match(pattern) for pattern in patterns)
    if op in _FOUND:
        return (
            len(patterns) == 5
            and bool(_PLAIN.match(patterns[0]))
            and bool(_NUMBER.match(patterns[2]))
            and patterns[3] in ("search", "match", "fullmatch")
            and bool(_NUMBER.match(patterns[4]))
        )
    if op in _TOKENS:
        return (
            len(patterns) > 3 and bool(_NUMBER.match(patterns[1])) and bool(re.fullmatch("[0-9a-f]{1,32}", patterns[2]))
        )
    return op in ("chars", "words") and len(patterns) == 1 and bool(_NUMBER.match(patterns[0]))
