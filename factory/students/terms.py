"""The n-grams of a text, as the linear student counts them; plain Python, so that an export needs no more."""

from __future__ import annotations

import re

WORD = re.compile(r"(?u)\b\w+\b|[!?$€£%@#]")


def terms_of(text: str, words: tuple[int, int], characters: tuple[int, int]) -> list[str]:
    """The n-grams of a text, in order, with repeats.

    Example:
        >>> terms_of("Buy NOW!", (1, 2), (0, 0))
        ['buy', 'now', '!', 'buy now', 'now !']
    """
    tokens = WORD.findall(text.lower())
    found: list[str] = []
    for size in range(words[0], words[1] + 1):
        found += tokens if size == 1 else [" ".join(tokens[i : i + size]) for i in range(len(tokens) - size + 1)]
    if characters[1]:
        for token in tokens:
            padded = f"\x02{token}\x03"
            for size in range(characters[0], characters[1] + 1):
                found += ["\x01" + padded[i : i + size] for i in range(len(padded) - size + 1)]
    return found
