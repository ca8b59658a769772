"""What the one-pass engine leaves open, settled in the sealed child by Python's own patterns, only where there is something."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .views import prepare

MANY = 8
"""Most words of the tables that one run of characters may hold."""


def settler(task: Mapping[str, Any], place: Callable[[], int]) -> Callable[[str], int]:
    """A function from a text, in which the engine found the converted pattern, to what Python's own pattern finds.

    No match that ends before the engine's first hit exists, and none is longer than the pattern's width: so the search begins
    shortly before each hit.

    Args:
        task: `op`, `found` (converted, pattern, flags, method, width), `view`, and `ends`: for each text the ends of the hits.
        place: Number of the text at hand.
    """
    _, pattern, flags, how, wide = task["found"]
    op, view, ends, width = task["op"], task["view"], task["ends"], int(wide)
    real = re.compile(pattern, int(flags))

    def first(text: str) -> int:
        seen = prepare(view, text)
        if how != "search":
            return int(getattr(real, how)(seen) is not None)
        return int(real.search(seen, max(0, ends[place()][0] - width) if width else 0) is not None)

    def every(text: str) -> int:
        seen = prepare(view, text)
        if op == "found_distinct":
            return min(len(set(_matches(real, seen, ends[place()], width))), 30_000)
        return min(len(_matches(real, seen, ends[place()], width)), 30_000)

    return first if op == "found_any" else every


def _matches(real: re.Pattern[str], seen: str, ends: Sequence[int], width: int) -> list[str]:
    """What `findall` finds."""
    if not width:
        return [match.group() for match in real.finditer(seen)]
    found, at = [], 0
    for end in ends:
        if end <= at:
            continue
        match = real.search(seen, max(at, end - width))
        if match is None:
            break
        found.append(match.group())
        at = match.end()
    return found


def finder(task: Mapping[str, Any]) -> Callable[[Any], int]:
    """A function from a run of characters to the words of a table among its tokens.

    It gives 0 for none, the word's number from 1, or one more than there are words for several of them. For `(run, place)` it
    gives the word at that place, or 0.
    """
    find = re.compile(task["pattern"], int(task["flags"])).findall
    words = {word: number for number, word in enumerate(task["words"], 1)}
    several = len(words) + 1

    def numbers(run: str) -> list[int]:
        return [words[token] for token in find(run) if token in words]

    def one(item: Any) -> int:
        if type(item) is str:
            found = numbers(item)
            return 0 if not found else found[0] if len(found) == 1 else several
        run, place = item
        found = numbers(run)
        return found[place] if place < len(found) else 0

    return one
