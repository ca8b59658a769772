"""The words of a text that a list of rules voted for a label by."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from factory.programs.rules.engine import RuleVoter
from factory.programs.rules.folding import composed, whole
from factory.programs.rules.lists import Cue, RuleList
from factory.programs.rules.patterns import PATTERN_MEMORY, options

MOST_WORDS, MOST_CHARACTERS = 5, 60
"""Words that are told of one list, and characters of each."""


def words_behind(voter: RuleVoter, lists: Sequence[RuleList], text: str, said: Sequence[str | None]) -> list[list[str]]:
    """For each list the words of a text by which it said a label, as they stand there.

    Args:
        voter: Of these lists.
        lists: m of them.
        text: The text.
        said: [m], the label that each list gave, or None where it abstained.

    Returns:
        For each list up to `MOST_WORDS`, those of the heaviest rules first; a cue that had to stand beside another follows in
        brackets: `rates (with Fed)`.
    """
    found: list[list[str]] = []
    for each, label, fired in zip(lists, said, voter.fired(text), strict=True):
        rules = [(each.rules[at].weight, cues) for at, cues in fired if each.rules[at].label == label]
        words = (_shown(cues, text) for _, cues in sorted(rules, key=lambda rule: -rule[0]))
        found.append(list(dict.fromkeys(words))[:MOST_WORDS])
    return found


def _shown(cues: Sequence[Cue], text: str) -> str:
    first, *beside = (_span(cue, text) for cue in cues)
    return f"{first} (with {', '.join(beside)})" if beside else first


def _span(cue: Cue, text: str) -> str:
    """Where a cue stands in a text; the cue itself where letters were folded so that it stands there otherwise."""
    match = _pattern(cue).search(composed(whole(text)) if cue.kind != "regex" else whole(text))
    found = " ".join((cue.value if match is None else match.group(0)).split())
    return found if len(found) <= MOST_CHARACTERS else f"{found[: MOST_CHARACTERS - 3]}..."


@lru_cache(maxsize=4096)
def _pattern(cue: Cue) -> Any:
    import re2

    words = cue.value if cue.kind == "regex" else r"\s+".join(map(re2.escape, composed(cue.value).split()))
    return re2.compile(words, options(PATTERN_MEMORY))
