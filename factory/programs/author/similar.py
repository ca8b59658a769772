"""Programs that are the same twice: a hash of what they say, and near-copies in text."""

from __future__ import annotations

import difflib
import hashlib
import re

import numpy as np

from factory.programs.rules import essence

NEAR_COPY = 0.92
"""`SequenceMatcher` ratio of two sources' words, comments and blanks apart, from which one copies the other."""


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
    """The first of other sources (as `plain_source` gives them) that this one nearly repeats, or None."""
    matcher = difflib.SequenceMatcher[str](autojunk=False)
    matcher.set_seq2(_tokens(plain_source(source)))
    for index, other in enumerate(others):
        matcher.set_seq1(_tokens(other))
        if matcher.real_quick_ratio() < at_least or matcher.quick_ratio() < at_least:
            continue
        if matcher.ratio() >= at_least:
            return index
    return None


def _tokens(source: str) -> list[str]:
    return re.findall(r"\w+", source)
