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

    A pair `(start, end)` says that matches which end by `end` begin at `start` or later, and that every match lies within a
    pair. So the search begins there, and ends with the last pair.

    Args:
        task: `op`, `found` (converted, pattern, flags, method, width), `view`, and of int32 the `pairs` of all texts and the
            `cuts` between texts.
        place: Number of the text at hand.
    """
    _, pattern, flags, how, _ = task["found"]
    op, view = task["op"], task["view"]
    pairs, cuts = memoryview(task["pairs"]).cast("i"), memoryview(task["cuts"]).cast("i")
    real = re.compile(pattern, int(flags))

    def first(text: str) -> int:
        seen = prepare(view, text)
        if how != "search":
            return int(getattr(real, how)(seen) is not None)
        return int(real.search(seen, pairs[2 * cuts[place()]]) is not None)

    def every(text: str) -> int:
        at = place()
        found = _matches(real, prepare(view, text), pairs[2 * cuts[at] : 2 * cuts[at + 1]])
        return min(len(set(found) if op == "found_distinct" else found), 30_000)

    return first if op == "found_any" else every


def _matches(real: re.Pattern[str], seen: str, pairs: Sequence[int]) -> list[str]:
    """What `findall` finds."""
    found: list[str] = []
    at = 0
    for number in range(0, len(pairs), 2):
        start, end = pairs[number], pairs[number + 1]
        while end > at:
            match = real.search(seen, max(at, start))
            if match is None:
                return found
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
