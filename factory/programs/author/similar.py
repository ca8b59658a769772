"""Programs that are the same twice: a hash of what they say, and near-copies in text."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from itertools import pairwise

import numpy as np

from factory.programs.rules import essence

NEAR_COPY = 0.88
"""Share of pairs of neighbouring words, comments and blanks apart, that two sources have in common where one copies the other.

A source in which 6% of the words are replaced, each by itself, keeps that many; 12%, if they stand together.
"""


def functional_hash(votes: np.ndarray) -> str:
    """A hash of one program's votes on a fixed set of texts.

    Args:
        votes: `[n]` integers, -1 abstains.
    """
    return hashlib.sha256(np.ascontiguousarray(votes, dtype="<i4").tobytes()).hexdigest()


def plain_source(source: str) -> str:
    """What is a program's own, without comments, docstring quotes and runs of blanks; nothing is parsed."""
    lines = (re.sub(r"(^|\s)#.*$", "", line).strip() for line in essence(source).splitlines())
    return "\n".join(re.sub(r"\s+", " ", line) for line in lines if line)


def near_copy(source: str, others: list[str], *, at_least: float = NEAR_COPY) -> int | None:
    """The first of other sources (as `plain_source` gives them) that this one nearly repeats, or None.

    Linear in the sources' lengths.
    """
    own = _pairs(plain_source(source))
    return next((index for index, other in enumerate(others) if _shared(own, _pairs(other)) >= at_least), None)


def _shared(first: Counter[tuple[str, str]], second: Counter[tuple[str, str]]) -> float:
    """Twice what both hold over what they hold together (Dice), 0 to 1."""
    total = first.total() + second.total()
    return 2 * (first & second).total() / total if total else 1.0


def _pairs(source: str) -> Counter[tuple[str, str]]:
    words = re.findall(r"\w+", source)
    return Counter(pairwise(["", *words, ""]))
