"""On which words of a text programs voted: of lists of rules what fired, of Python programs what the vote rests on."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from factory.programs.blocks import AcceptedProgram, run_accepted
from factory.programs.rules import RuleVoter, read_rules, words_behind
from factory.programs.rules.lists import YES_NO
from factory.programs.sandbox.host.pool import Pool

MOST_PIECES, MOST_WORDS = 150, 5
"""Words of a text that are tried for a Python program, and those that are told."""


def rule_words(
    programs: Sequence[AcceptedProgram], votes: Sequence[int], text: str, labels: list[str]
) -> list[list[str]]:
    """For each program the words of a text by which it voted; none for what is no list of rules.

    Args:
        programs: m of them.
        votes: [m], what each said: a label's number, or of the one label that it speaks of 0 or 1.
        text: The text.
        labels: Label names by number.
    """
    at = [place for place, one in enumerate(programs) if one.kind == "rules"]
    lists = [read_rules(programs[place].source, labels, programs[place].target) for place in at]
    names = [labels if programs[place].target is None else list(YES_NO[::-1]) for place in at]
    found: list[list[str]] = [[] for _ in programs]
    if at:
        said = [each[votes[place]] for each, place in zip(names, at, strict=True)]
        for place, words in zip(at, words_behind(RuleVoter(lists, names), lists, text, said), strict=True):
            found[place] = words
    return found


def python_words(
    pool: Pool, programs: Sequence[AcceptedProgram], votes: Sequence[int], text: str, labels: list[str]
) -> list[list[str]]:
    """For each program the words without which it would not have voted so, and those that are enough by themselves; none for what
    is no Python, and for texts of more than 150 words.

    Arguments as of `rule_words`, with the sandbox's pool.
    """
    found: list[list[str]] = [[] for _ in programs]
    at = [place for place, one in enumerate(programs) if one.kind == "python"]
    spans = [match.span() for match in re.finditer(r"\S+", text)]
    if not at or not 1 < len(spans) <= MOST_PIECES:
        return found
    without = [text[:first] + text[last:] for first, last in spans]
    alone = [text[first:last] for first, last in spans]
    run = run_accepted(pool, [programs[place] for place in at], [*without, *alone], labels)
    for column, place in enumerate(at):
        said = np.asarray(run.votes[:, column], np.int64) == votes[place]
        rests = said[len(spans) :] | ~said[: len(spans)]
        words = [re.sub(r"^\W+|\W+$", "", alone[piece]) or alone[piece] for piece in np.flatnonzero(rests)]
        found[place] = list(dict.fromkeys(words))[:MOST_WORDS]
    return found
