"""Patterns as RE2 takes them, within bounds of memory and of time for a character of text."""

from __future__ import annotations

import re
from typing import Any

MAX_PATTERN_SIZE = 10_000
"""Instructions of a compiled pattern: `\\pL+` has 1,202."""

MAX_REPEATS = 100
"""The sum of a pattern's repetition counts, and the product of those that are nested. It bounds what a character of text costs:
with a thousand, up to 60 microseconds."""

PATTERN_MEMORY = 1 << 20
"""Bytes that RE2 must be able to compile a pattern in, whatever else is loaded."""

_REFUSALS = {
    "invalid perl operator": "it has no {!r} (look-around, atomic groups, comments): use `with` and `unless`",
    "invalid escape sequence": "it has no {!r} (no back-references; `\\z` is the end of the text)",
    "invalid repetition size": "{!r} repeats too often: at most 1,000 times, nested repetition counted",
    "bad repetition operator": "it has no {!r}: one repetition at a time",
    "no argument for repetition operator": "nothing stands before {!r}",
    "invalid character class range": "{!r} is not a character class",
    "missing ]": "a `[` is not closed in {!r}",
    "missing )": "a `(` is not closed in {!r}",
    "unexpected )": "a `)` too many in {!r}",
    "trailing \\": "it ends with a single backslash",
}
"""What RE2 says to our words."""


def compiled(pattern: str, *, memory: int = PATTERN_MEMORY) -> Any:
    """A pattern as RE2 takes it: case does not count, nothing is captured, memory is bounded.

    Raises:
        ValueError: RE2 refuses it, it is too large, or it finds itself in an empty text.
    """
    import re2

    try:
        found = re2.compile(pattern, options(memory))
    except re2.error as error:
        code, _, what = _re2_says(error).partition(": ")
        words = _REFUSALS.get(code, "it is not a valid pattern, or too large").format(what[:60])
        raise ValueError(f"RE2 does not take the pattern {pattern[:60]!r}: {words}") from None
    if found.programsize > MAX_PATTERN_SIZE or _repeats_too_often(pattern):
        raise ValueError(f"the pattern {pattern[:60]!r} is too large: fewer and shorter repetitions, narrower classes")
    if found.search("") is not None:
        raise ValueError(f"the pattern {pattern[:60]!r} matches an empty text")
    return found


def _repeats_too_often(pattern: str) -> bool:
    import re2

    pairs = re.findall(r"\{(\d{1,9})(?:,(\d{0,9}))?\}", pattern)
    if sum(max(int(count) for count in pair if count) for pair in pairs) > MAX_REPEATS:
        return True
    try:  # RE2 multiplies the nested ones, and stops at a thousand
        re2.compile(f"(?:{pattern}){{{1000 // MAX_REPEATS}}}", options(64 * PATTERN_MEMORY))
    except re2.error as error:
        return _re2_says(error).startswith("invalid repetition size")
    return False


def _re2_says(error: Exception) -> str:
    said = error.args[0]
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)


def options(memory: int, **more: bool) -> Any:
    """RE2's options: caseless, capturing nothing, silent, within so many bytes."""
    import re2

    made = re2.Options()
    made.max_mem, made.log_errors, made.never_capture, made.case_sensitive = memory, False, True, False
    for name, value in more.items():
        setattr(made, name, value)
    return made
