"""One pass over texts for the tests of many programs: a Hyperscan database for each view, and one look-up of each token."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np

from factory.programs.sandbox.views import ASCII, View, prepare
from factory.programs.specs import Spec
from factory.programs.tokens import Words, once_each, tally

LONGEST_RUN = 400
LONGEST_TEXT = 1 << 20
_LONGEST = 15_000
_BEYOND = re.compile(r"[^\x00-\x7f]")
_OWN = re.compile("[\x1f\x7f_]")
_FOLDED = frozenset("\u0130\u0131\u017f\u212a")  # letters that are an ASCII letter in another case


def in_ascii(text: str) -> str | None:
    """The text with a stand-in for each character beyond ASCII, as long as before; None if that cannot be done."""
    if text.isascii():
        return text
    if _OWN.search(text) or not _FOLDED.isdisjoint(text):
        return None
    try:
        return _BEYOND.sub(_stand_in, text)
    except ValueError:
        return None


def _stand_in(found: re.Match[str]) -> str:
    character = found.group()
    if character.isdecimal():
        raise ValueError("a digit beyond ASCII has no stand-in")
    return "_" if character.isalnum() else "\x1f" if character.isspace() else "\x7f"


@dataclass(frozen=True)
class _Id:
    """What a hit of one scanned pattern adds to: a column of the outcomes.

    Attributes:
        pattern: For the engine.
        column: Of the outcomes.
        once: Whether a text counts once.
    """

    pattern: str
    column: int
    once: bool


@dataclass(frozen=True)
class Open:
    """A scanned pattern whose hits are settled by Python's own.

    Attributes:
        pattern: For the engine.
        column: Of the outcomes.
        width: Most characters of a match, or 0.
        exact: Whether the engine tells where a match begins.
    """

    pattern: str
    column: int
    width: int
    exact: bool = True


@dataclass
class Scanned:
    """What one pass over a chunk of texts gave.

    Attributes:
        values: `[n, columns]` int16, outcomes of all programs; -1 where one cannot be known.
        odd: `[n]`, texts that must run as Python: their outcomes mean nothing.
        open: For each column that must be settled: its rows `[k]`; pairs `[p, 2]` of where a match may begin and where the last
            of those that begin there ends; and which pairs are of which row, as cuts `[k + 1]`.
        runs: For each view with tokens: what `Words.count` needs.
        unknown: Rows and columns that the engine could tell nothing of.
    """

    values: np.ndarray
    odd: np.ndarray
    open: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = field(default_factory=dict)
    runs: list[tuple[Words, list[str], list[int]]] = field(default_factory=list)
    unknown: list[tuple[list[int], list[int]]] = field(default_factory=list)


class Scanner:
    """The tests of some programs.

    Attributes:
        indices: The programs.
        starts: The first column of each, and the end of the last.
        specs: The observation of each column.
    """

    def __init__(self, programs: Mapping[int, Sequence[Spec]]) -> None:
        self.indices = list(programs)
        widths = [len(specs) for specs in programs.values()]
        self.starts = np.concatenate([[0], np.cumsum(widths)]).astype(np.int64)
        self.specs = [spec for specs in programs.values() for spec in specs]
        self.clipped: list[int] = []
        ids: dict[View, list[_Id]] = {}
        kept: dict[View, list[Open]] = {}
        lengths: dict[View, list[tuple[str, int, int]]] = {}
        tokens: dict[View, list[tuple[int, Spec]]] = {}
        for column, (op, patterns, view) in enumerate(self.specs):
            if op in ("chars", "words"):
                lengths.setdefault(view, []).append((op, int(patterns[0]), column))
            elif op.startswith("token_"):
                tokens.setdefault(view, []).append((column, self.specs[column]))
                if op == "token_any":
                    self.clipped.append(column)
            elif op.startswith("found_"):
                kept.setdefault(view, []).append(Open(patterns[0], column, int(patterns[4])))
            elif op == "any":
                ids.setdefault(view, []).extend(_Id(pattern, column, True) for pattern in _joined(patterns))
                self.clipped.append(column)
            else:
                ids.setdefault(view, []).extend(_Id(pattern, column, op == "distinct") for pattern in patterns)
        self.views = [
            _View(
                view,
                ids.get(view, []),
                kept.get(view, []),
                lengths.get(view, []),
                Words(tokens[view]) if view in tokens else None,
            )
            for view in sorted({*ids, *kept, *lengths, *tokens}, key=repr)
        ]

    def scan(self, texts: Sequence[str]) -> Scanned:
        """Everything that the engine alone can tell; `open` and `runs` are left to do."""
        odd = np.array([len(text) >= LONGEST_TEXT // 2 for text in texts], dtype=bool)
        found = Scanned(np.zeros((len(texts), len(self.specs)), dtype=np.int16), odd)
        for view in self.views:
            view.scan(texts, found)
        return found

    def outcomes(self, found: Scanned) -> dict[int, np.ndarray]:
        """Outcomes `[n, width]` int16 of each program."""
        values = found.values
        values[:, self.clipped] = np.minimum(values[:, self.clipped], 1)
        for rows, columns in found.unknown:
            values[np.ix_(rows, columns)] = -1
        cuts = zip(self.indices, self.starts[:-1], self.starts[1:], strict=True)
        return {index: np.ascontiguousarray(values[:, start:stop]) for index, start, stop in cuts}


class _View:
    """The patterns, lengths and tokens asked on one view of the texts."""

    def __init__(
        self, view: View, ids: list[_Id], kept: list[Open], lengths: list[tuple[str, int, int]], words: Words | None
    ) -> None:
        self.view, self.lengths, self.words = view, lengths, words
        self.ascii = ASCII in view
        scanned = [one.column for one in ids] + [one.column for one in kept]
        self.asked = sorted({*scanned, *(column for _, _, column in lengths)})
        if words is not None:
            self.asked = sorted({*self.asked, *words.columns})
        self.columns = np.array([one.column for one in ids], dtype=np.int64)
        self.many = np.array([not one.once for one in ids], dtype=bool)
        self._database = _compiled([(one.pattern, one.once, False) for one in ids])
        self._open = _beginning(kept)

    def scan(self, texts: Sequence[str], found: Scanned) -> None:
        """Add what is found in the texts."""
        seen = []
        unknown = []
        for row, text in enumerate(texts):
            mine = None if self.ascii and not text.isascii() else in_ascii(prepare(self.view, text))
            if mine is None or len(mine) >= LONGEST_TEXT:
                unknown.append(row)
            seen.append(mine or "")
        if self.lengths:
            chars = np.array([len(text) for text in seen])
            words = np.array([len(text.split()) for text in seen])
            for unit, number, column in self.lengths:
                found.values[:, column] = (chars if unit == "chars" else words) >= number
        if self.words is not None:
            runs: list[str] = []
            sizes = []
            find = self.words.find
            for text in seen:
                listed = find(text)
                runs += listed
                sizes.append(len(listed))
            found.runs.append((self.words, runs, sizes))
        if self._database is not None:
            self._add(self._database.scan, seen, found)
        for database, ids in self._open:
            self._keep(database.scan, ids, seen, found)
        if unknown:
            found.unknown.append((unknown, self.asked))

    def _hits(self, scan: Any, seen: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Row, pattern, start (0 where it is not asked for) and end of every hit, by row."""
        hits: list[int] = []
        sizes = [0]
        add = hits.append

        def on_match(number: int, start: int, stop: int, flags: int, context: Any) -> None:
            add(number << 40 | start << 20 | stop)

        for text in seen:
            if text:
                scan(text.encode(), match_event_handler=on_match)
            sizes.append(len(hits))
        found = np.array(hits, dtype=np.int64)
        rows = np.repeat(np.arange(len(seen), dtype=np.int64), np.diff(sizes))
        return rows, found >> 40, found >> 20 & 0xFFFFF, found & 0xFFFFF

    def _add(self, scan: Any, seen: Sequence[str], found: Scanned) -> None:
        rows, numbers, _, ends = self._hits(scan, seen)
        many = self.many[numbers]
        if many.any():
            keys = once_each((rows[many] << 40) | (numbers[many] << 20) | ends[many])
            tally(found.values, keys >> 40, self.columns[keys >> 20 & 0xFFFFF])
            rows, numbers = rows[~many], numbers[~many]
        tally(found.values, rows, self.columns[numbers])

    def _keep(self, scan: Any, ids: Sequence[Open], seen: Sequence[str], found: Scanned) -> None:
        """Put down where matches may begin, and where the last of those that begin there ends."""
        rows, numbers, starts, ends = self._hits(scan, seen)
        widths = np.array([one.width for one in ids], dtype=np.int64)[numbers]
        exact = np.array([one.exact for one in ids], dtype=bool)[numbers]
        starts = np.where(exact, starts, np.where(widths > 0, np.maximum(ends - widths, 0), 0))
        ends = np.where(exact | (widths > 0), ends, LONGEST_TEXT)
        columns = np.array([one.column for one in ids], dtype=np.int64)[numbers]
        order = np.lexsort((ends, starts, rows, columns))
        columns, rows, starts, ends = columns[order], rows[order], starts[order], ends[order]
        last = np.append((np.diff(starts) != 0) | (np.diff(rows) != 0) | (np.diff(columns) != 0), True)[: len(rows)]
        columns, rows, starts, ends = columns[last], rows[last], starts[last], ends[last]
        cuts = np.flatnonzero(np.diff(columns)) + 1
        for part in np.split(np.arange(len(columns)), cuts):
            if len(part):
                places = np.flatnonzero(np.diff(rows[part], prepend=-1))
                pairs = np.stack([starts[part], ends[part]], axis=1).astype(np.int32)
                found.open[int(columns[part[0]])] = (
                    rows[part][places], pairs, np.append(places, len(part)).astype(np.int32)
                )  # fmt: skip


_PROBES = (
    (
        r"(?:i|we|my [a-z]{1,}) (?:(?:just |really |truly |also |still |immensely |greatly )){0,1}(?:love(?:d){0,1})",
        " we love",
    ),
    (
        r"\b(?:is|was|it's) (?:the|by far the) (?:best|finest) (?:[a-z]{1,} )?(?:movie|film)\b",
        " it's the finest horror film ",
    ),
    (r"(?:get|send).*\|\s*(?:now|today)", " get it | now"),
)
"""A pattern, and what it matches. Vectorscan 5.4.12 misses the first at some places in a text."""


@cache
def engine_fails() -> str | None:
    """Why the one-pass engine cannot be used here, or None.

    Some builds of the engine miss matches without a word, so it must first find known ones at every place of a text.
    """
    if find_spec("hyperscan") is None:
        return "the one-pass engine (hyperscan) is not installed"
    found: set[int] = set()

    def on_match(number: int, start: int, stop: int, flags: int, context: Any) -> None:
        found.add(number)

    for starts in (False, True):
        for once in (False, True):
            database = _compiled([(pattern, once, starts) for pattern, _ in _PROBES])
            for number, (_, text) in enumerate(_PROBES):
                for before in range(130):
                    found.clear()
                    database.scan(
                        f"{'notes of people ' * 9}"[:before].encode() + text.encode(), match_event_handler=on_match
                    )
                    if number not in found:
                        return f"the one-pass engine misses matches ({_engine_version()})"
    return None


def _engine_version() -> str:
    import hyperscan

    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    database.compile(expressions=[b"a"], ids=[0], elements=1, flags=[0])
    return str(database.info().decode()).split(" Features")[0].replace("Version: ", "version ")


def _compiled(patterns: Sequence[tuple[str, bool, bool]]) -> Any:
    """A database of `(pattern, once, with starts)`, or None of no patterns."""
    import hyperscan

    if not patterns:
        return None
    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    database.compile(
        expressions=[pattern.encode() for pattern, _, _ in patterns],
        ids=list(range(len(patterns))),
        elements=len(patterns),
        flags=[
            hyperscan.HS_FLAG_SOM_LEFTMOST if starts else hyperscan.HS_FLAG_SINGLEMATCH if once else 0
            for _, once, starts in patterns
        ],
    )
    return database


def _beginning(kept: Sequence[Open]) -> list[tuple[Any, list[Open]]]:
    """Databases that tell where a match begins; patterns for which the engine cannot tell it are in one of their own."""
    import hyperscan

    found: list[tuple[Any, list[Open]]] = []
    left: list[Open] = []
    waiting = [list(kept)] if kept else []
    while waiting:
        part = waiting.pop()
        try:
            found.append((_compiled([(one.pattern, False, True) for one in part]), part))
        except hyperscan.error:
            half = len(part) // 2
            if half:
                waiting += [part[:half], part[half:]]
            else:
                left += [replace(one, exact=False) for one in part]
    if left:
        found.append((_compiled([(one.pattern, one.width == 0, False) for one in left]), left))
    return found


def _joined(patterns: Sequence[str]) -> list[str]:
    """Patterns as few alternations, none longer than the engine takes."""
    found: list[str] = []
    part: list[str] = []
    size = 0
    for pattern in patterns:
        if part and size + len(pattern) > _LONGEST:
            found.append("|".join(part))
            part, size = [], 0
        part.append(f"(?:{pattern})")
        size += len(pattern) + 5
    return [*found, "|".join(part)]


def unique_rows(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct rows `[k, width]` and, for each row, which of them it is."""
    generator = np.random.default_rng(20_240_229)
    weights = generator.integers(1, 1 << 62, values.shape[1], dtype=np.int64)
    with np.errstate(over="ignore"):
        sums = values.astype(np.int64) @ weights
    _, first, inverse = np.unique(sums, return_index=True, return_inverse=True)
    rows = values[first]
    if not np.array_equal(rows[inverse], values):
        rows, inverse = np.unique(values, axis=0, return_inverse=True)
        inverse = inverse.reshape(-1)
    return rows, inverse
