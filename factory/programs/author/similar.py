"""Programs that are the same twice: a hash of what they say, and near-copies in text."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

NEAR_COPY = 0.92
"""`SequenceMatcher` ratio of two sources' words, comments and blanks apart, from which one copies the other."""

_MOST_PAIRS = 200_000
"""Pairs of equal words in two sources beyond which pairs of neighbours are compared instead: difflib's time grows with them."""


def functional_hash(votes: np.ndarray) -> str:
    """A hash of one program's votes on a fixed set of texts, `[n]` integers, -1 abstains."""
    return hashlib.sha256(np.ascontiguousarray(votes, dtype="<i4").tobytes()).hexdigest()


def plain_source(source: str, kind: str = "python") -> str:
    """What is a program's own: Python without comments and runs of blanks, not parsed; the rules of a list, sorted."""
    if kind == "rules":
        rules = json.loads(source)["rules"]
        return "\n".join(sorted(f"{rule['value']} {rule['label']}" for rule in rules))
    lines = (re.sub(r"(^|\s)#.*$", "", line).strip() for line in source.splitlines())
    return "\n".join(re.sub(r"\s+", " ", line) for line in lines if line)


def near_copy(plain: str, others: Sequence[str], *, at_least: float = NEAR_COPY) -> int | None:
    """The first of other sources that one nearly repeats, or None; all as `plain_source` gives them."""
    mine = re.findall(r"\w+", plain)
    matcher = difflib.SequenceMatcher[str](autojunk=False)
    matcher.set_seq2(mine)
    for index, other in enumerate(others):
        theirs = re.findall(r"\w+", other)
        matcher.set_seq1(theirs)
        if matcher.real_quick_ratio() < at_least or matcher.quick_ratio() < at_least:
            continue
        mine_of, theirs_of = Counter(mine), Counter(theirs)
        if sum(n * theirs_of[word] for word, n in mine_of.items()) > _MOST_PAIRS:
            shared = (Counter(pairwise(mine)) & Counter(pairwise(theirs))).total()
            ratio = 2 * shared / max(len(mine) + len(theirs) - 2, 1)
        else:
            ratio = matcher.ratio()
        if ratio >= at_least:
            return index
    return None
