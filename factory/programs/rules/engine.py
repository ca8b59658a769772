"""All lists of rules over a block of texts in one pass.

Values of all lists go into one RE2 automaton over the folded text, patterns into RE2's filter, which runs only those whose
literal parts occur. Both are linear in the text, within memory bounds. Which texts hold which cue then becomes a label matrix by
arithmetic on integers, a list at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np

from factory.programs.rules.folding import fold, is_word_character, occurs_as_word, whole
from factory.programs.rules.lists import YES_NO, Cue, RuleList
from factory.programs.rules.patterns import PATTERN_MEMORY, options
from factory.programs.rules.read import read_rules

CHUNK = 10_000
"""Texts whose cues are held at once."""

_VALUES_MEMORY = 64 << 20
_PATTERNS_MEMORY = 512 << 20
"""Bytes for all patterns together; each has 1 to 8 MiB of them, and uses what it needs."""


class RuleVoter:
    """Lists of rules, ready to vote.

    Example:
        >>> rules = read_rules([{"kind": "word", "value": "win", "label": "spam"}], ["ham", "spam"], None)
        >>> RuleVoter([rules], [["ham", "spam"]]).votes(["Win!", "a window"]).tolist()
        [[1], [-1]]
    """

    def __init__(self, lists: Sequence[RuleList], labels: Sequence[Sequence[str]]) -> None:
        """Compile `m` lists; `labels` are for each the labels by number: the votes are their numbers (`("no", "yes")` for a list
        that speaks of one label).
        """
        numbers = [{name: number for number, name in enumerate(names)} for names in labels]
        cues = {cue: None for each in lists for rule in each.rules for cue in (rule.cue, *rule.beside, *rule.unless)}
        self._cues: list[Cue] = [*(c for c in cues if c.kind != "regex"), *(c for c in cues if c.kind == "regex")]
        at = {cue: place for place, cue in enumerate(self._cues)}
        self._values = [(cue.kind, cue.needle) for cue in self._cues if cue.kind != "regex"]
        self._ascii = _Automaton(self._values, ascii_texts=True)
        self._other = _Automaton(self._values, ascii_texts=False)
        patterns = [cue.value for cue in self._cues[len(self._values) :]]
        memory = max(PATTERN_MEMORY, min(8 << 20, _PATTERNS_MEMORY // max(1, len(patterns))))
        self._patterns = _filters(patterns, options(memory), len(self._values))
        self._lists = [
            [
                ((at[r.cue], [at[c] for c in r.beside], [at[c] for c in r.unless]), number[r.label], r.weight)
                for r in each.rules
            ]
            for each, number in zip(lists, numbers, strict=True)
        ]

    def votes(self, texts: Sequence[str]) -> np.ndarray:
        """`[n, m]` int32, the number of a label, or -1 for abstaining."""
        votes = np.full((len(texts), len(self._lists)), -1, dtype=np.int32, order="F")
        for start in range(0, len(texts), CHUNK):
            part = texts[start : start + CHUNK]
            rows_of = self._found(part)
            for column, rules in enumerate(self._lists):
                _vote(rules, rows_of, votes[start : start + len(part), column])
        return votes

    def fired(self, text: str) -> list[list[tuple[int, list[Cue]]]]:
        """For each list its rules that match a text: their places in the list, and the cues that were found for them."""
        there = set(self._cues_of(text))
        return [
            [
                (at, [self._cues[place] for place in (cue, *beside) if place in there])
                for at, ((cue, beside, unless), _, _) in enumerate(rules)
                if cue in there and (not beside or not there.isdisjoint(beside)) and there.isdisjoint(unless)
            ]
            for rules in self._lists
        ]

    def _found(self, texts: Sequence[str]) -> Callable[[int], np.ndarray]:
        """For each cue the rows in which it is found, in order."""
        hits = [self._cues_of(text) for text in texts]
        counts = np.fromiter(map(len, hits), dtype=np.int64, count=len(hits))
        cues = np.fromiter(chain.from_iterable(hits), dtype=np.int64, count=int(counts.sum()))
        rows = np.repeat(np.arange(len(hits)), counts)
        rows = rows[np.argsort(cues, kind="stable")]
        ends = np.cumsum(np.bincount(cues, minlength=len(self._cues)))
        return lambda cue: rows[ends[cue - 1] if cue else 0 : ends[cue]]

    def _cues_of(self, text: str) -> list[int]:
        folded = fold(text)
        found = (self._ascii if text.isascii() else self._other).search(folded.encode())
        if not text.isascii():
            values = self._values
            found = [at for at in found if values[at][0] != "word" or occurs_as_word(values[at][1], folded)]
        encoded = whole(text).encode()
        return [*found, *(first + number for match, first in self._patterns for number in match(encoded, False))]


def rule_votes(
    sources: Sequence[str], texts: Sequence[str], labels: Sequence[str], targets: Sequence[str | None]
) -> np.ndarray:
    """What lists that are kept say of texts: `[n, m]` int32, a label's number, -1 abstains; with a target 1 yes, 0 no.

    Args:
        sources: Their canonical JSON.
        texts: The texts.
        labels: Label names by number.
        targets: For each the label it speaks of, or None.

    Raises:
        RulesRefused: A source is not what `read_rules` takes.
    """
    return _voter(tuple(sources), tuple(labels), tuple(targets)).votes(texts)


@lru_cache(maxsize=2)
def _voter(sources: tuple[str, ...], labels: tuple[str, ...], targets: tuple[str | None, ...]) -> RuleVoter:
    """Compiled once for the many blocks of a run."""
    lists = [read_rules(source, labels, target) for source, target in zip(sources, targets, strict=True)]
    return RuleVoter(lists, [labels if target is None else YES_NO[::-1] for target in targets])


# ----------------------------------------------------------------------------------------------------------------------
class _Automaton:
    """Finds literal values in folded text, all at once.

    In ASCII text RE2's `\\b` is the word boundary of `folding`; in other text it finds words anywhere, to be looked at again.
    """

    def __init__(self, values: Sequence[tuple[str, str]], *, ascii_texts: bool) -> None:
        """Compile on first use: kind and needle of each value, and which texts will be searched."""
        self._values, self._ascii_texts = values, ascii_texts
        self._match: Callable[[bytes], list[int]] | None = None
        self._places: list[int] = []

    def search(self, text: bytes) -> list[int]:
        """Places of the values that the text holds."""
        if self._match is None:
            self._compile()
            assert self._match is not None
        places = self._places
        return [places[number] for number in self._match(text)]

    def _compile(self) -> None:
        import re2

        places = [at for at, (_, needle) in enumerate(self._values) if needle.isascii() or not self._ascii_texts]
        automaton = re2.Set.SearchSet(options(_VALUES_MEMORY + len(places) * 4096, case_sensitive=True))
        for at in places:
            automaton.Add(self._pattern(*self._values[at]))
        self._places = places
        if places:
            automaton.Compile()
            self._match = automaton._set.Match
        else:
            self._match = lambda text: []

    def _pattern(self, kind: str, needle: str) -> str:
        import re2

        pattern: str = re2.escape(needle)
        if kind == "starts_with":
            return rf"\A{pattern}"
        if kind == "word" and self._ascii_texts:
            opens, closes = (r"\b" if is_word_character(needle[at]) else "" for at in (0, -1))
            return opens + pattern + closes
        return pattern


def _filters(patterns: Sequence[str], how: Any, first: int) -> list[tuple[Callable[[bytes, bool], list[int]], int]]:
    """The patterns in as few filters as their literal parts fit in."""
    import re2

    if not patterns:
        return []
    made = re2.Filter()
    for pattern in patterns:
        made.Add(pattern, how)
    try:
        made.Compile()
    except re2.error:
        if len(patterns) == 1:
            raise
        middle = len(patterns) // 2
        return _filters(patterns[:middle], how, first) + _filters(patterns[middle:], how, first + middle)
    return [(made._filter.Match, first)]


_Places = tuple[int, list[int], list[int]]


def _vote(rules: Sequence[tuple[_Places, int, int]], rows_of: Callable[[int], np.ndarray], votes: np.ndarray) -> None:
    """Put one list's votes into its column, which holds -1 so far."""
    matched, numbers, weights = [], [], []
    for (cue, beside, unless), number, weight in rules:
        rows = rows_of(cue)
        if len(rows) and beside:
            rows = rows[np.isin(rows, np.concatenate([rows_of(other) for other in beside]))]
        if len(rows) and unless:
            rows = rows[np.isin(rows, np.concatenate([rows_of(other) for other in unless]), invert=True)]
        if len(rows):
            matched.append(rows)
            numbers.append(number)
            weights.append(weight)
    if not matched:
        return
    found, columns = np.unique(numbers, return_inverse=True)
    sizes = [len(rows) for rows in matched]
    rows, inverse = np.unique(np.concatenate(matched), return_inverse=True)
    cells = inverse * len(found) + np.repeat(columns, sizes)
    sums = np.bincount(cells, np.repeat(weights, sizes), minlength=len(rows) * len(found)).reshape(len(rows), -1)
    best = sums.max(axis=1)
    clear = (sums == best[:, None]).sum(axis=1) == 1
    votes[rows[clear]] = found[sums.argmax(axis=1)[clear]]
