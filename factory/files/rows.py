"""From what a reader yields to texts with their identity and gold: every row is usable, or is refused with a reason."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from factory.canonical import canonical_json
from factory.errors import InputError
from factory.files.base import BadRow, Batch, OpenSource, place
from factory.files.columns import Columns
from factory.files.labels import label_hint, label_items
from factory.files.source import SourceSpec
from factory.files.values import as_text, is_missing, text_fault
from factory.names import LabelNames
from factory.result import Progress

NO_LABEL = -1
"""The label number of a `multi` text that has no label."""

_STOP_COUNTING_AT = 1_000


@dataclass(frozen=True)
class Row:
    """One usable row.

    Attributes:
        row_no: Line or row in the source, from 1.
        content_hash: 16 bytes.
        text: What programs, students and prompts see.
        fields: Canonical JSON of the fields, or None for a plain text.
        labels: Label numbers, ascending; `(NO_LABEL,)` for a `multi` text that has none; empty where no gold is read.
        votes: Published votes of human-written rules, as they stand in the source, or None.
        own: JSON of the user's own columns, or None where there are none.
    """

    row_no: int
    content_hash: bytes
    text: str
    fields: str | None = None
    labels: tuple[int, ...] = ()
    votes: tuple[int, ...] | None = None
    own: str | None = None


@dataclass(frozen=True)
class LeftOut:
    """A row that is left out by rule and is no fault: a rule exemplar, or filtered away by `where` and `exclude`."""

    row_no: int
    reason: str


class _Unusable(Exception):
    """Why a row cannot be used: a code and words."""


def content_hash(text: str, fields: str | None = None) -> bytes:
    """A text's identity: the first 16 bytes of SHA-256 of its UTF-8, or of the canonical JSON of its fields.

    Example:
        >>> content_hash("hello").hex()
        '2cf24dba5fb0a30e26e83b2ac5b9e29e'
    """
    return hashlib.sha256((text if fields is None else fields).encode()).digest()[:16]


@dataclass(frozen=True)
class Cleaner:
    """Turns batches of one source into rows.

    Attributes:
        spec: What the user said of the source.
        source: The source.
        columns: What its columns mean.
        fields: The card's fields; empty for plain texts.
        numbers: Label name to number, labels on the card alone.
        kind: `single` or `multi`.
        drop_exemplars: Whether marked rule exemplars are left out (of `train` and `reference`).
        gold_optional: Whether a row without a label is kept without gold rather than refused.
    """

    spec: SourceSpec
    source: OpenSource
    columns: Columns
    fields: tuple[str, ...]
    numbers: Mapping[str, int]
    kind: str
    drop_exemplars: bool = False
    gold_optional: bool = False

    @cached_property
    def find_label(self) -> LabelNames:
        """The card's label that a name in the source means."""
        return LabelNames(self.numbers)

    @property
    def untyped(self) -> bool:
        """Whether the source has no types, so that a null can only be written in words."""
        return self.source.kind == "csv"

    def rows(self, batch: Batch) -> Iterator[Row | BadRow | LeftOut]:
        """Every row of a batch, and then the rows the reader could not read."""
        for index, row_no in enumerate(batch.row_nos):
            yield self._row(row_no, batch, index)
        yield from batch.bad

    def place(self, row_no: int) -> str:
        """Where a row stands, for a person."""
        return place(self.spec.name, row_no, self.source.kind)

    def _row(self, row_no: int, batch: Batch, index: int) -> Row | BadRow | LeftOut:
        left = self._left_out(batch, index)
        if left is not None:
            return LeftOut(row_no, left)
        try:
            return self._usable(row_no, {name: values[index] for name, values in batch.columns.items()})
        except _Unusable as fault:
            return BadRow(row_no, *fault.args)

    def _usable(self, row_no: int, cells: Mapping[str, Any]) -> Row:
        parts = [self._part(cells[name], name) for name in self.columns.text]
        if self.fields:
            values = dict(zip(self.fields, parts, strict=True))
            fields = canonical_json(values).decode()
            text = "\n".join(f"{name}: {value}" for name, value in values.items())
            if not any(part.strip() for part in parts):
                raise _Unusable("empty_text", "every field is empty")
        else:
            fields, text = None, parts[0]
            if not text.strip():
                raise _Unusable("empty_text", f"column {self.columns.text[0]!r} is empty")
        labels = () if self.columns.label is None else self._labels(cells[self.columns.label])
        given = None if self.columns.votes is None else cells[self.columns.votes]
        votes = tuple(int(vote) for vote in given) if isinstance(given, (list, tuple)) else None
        own = {name: _json_value(cells[name]) for name in self.columns.own}
        words = json.dumps(own, ensure_ascii=False) if own else None
        return Row(row_no, content_hash(text, fields), text, fields, labels, votes, words)

    def _left_out(self, batch: Batch, index: int) -> str | None:
        exemplar = self.columns.exemplar
        if self.drop_exemplars and exemplar is not None and _true(batch.columns[exemplar][index]):
            return "exemplar"
        if not all(_among(batch.columns[name][index], wanted) for name, wanted in self.columns.where.items()):
            return "where"
        if any(_among(batch.columns[name][index], unwanted) for name, unwanted in self.columns.exclude.items()):
            return "exclude"
        return None

    def _part(self, value: Any, name: str) -> str:
        """What a text's column holds; for a text of several fields nothing is ""."""
        if is_missing(value, untyped=self.untyped):
            if not self.fields:
                raise _Unusable("empty_text", f"column {name!r} is empty")
            return ""
        fault = text_fault(value, name, encoding=self.spec.encoding, most=self.spec.max_chars)
        if fault is not None:
            raise _Unusable(*fault)
        if isinstance(value, str) and "\x00" in value:
            raise _Unusable("nul", f"a NUL character stands in column {name!r}")
        return as_text(value)

    def _labels(self, value: Any) -> tuple[int, ...]:
        missing = is_missing(value) or (is_missing(value, untyped=self.untyped) and self.find_label(value) is None)
        names = [] if missing else label_items(value, self.spec.label_separator, self.find_label)
        if self.kind == "single" and not names:
            if self.gold_optional:
                return ()
            raise _Unusable("empty_label", f"column {self.columns.label!r} is empty")
        if self.kind == "multi" and missing and self.gold_optional:
            return ()
        if self.kind == "single" and len(names) > 1:
            raise _Unusable("several_labels", f"{len(names)} labels in a task of kind 'single'")
        numbers: set[int] = set()
        for name in names:
            said = self.spec.renamed(name)
            found = self.find_label(said)
            if found is not None:
                numbers.add(self.numbers[found])
            elif self.spec.other_labels == "error":
                raise _Unusable("unknown_label", self._unknown(said))
        if not numbers and self.kind == "single":
            if self.gold_optional:
                return ()
            raise _Unusable("unknown_label", self._unknown(names[0]))
        return tuple(sorted(numbers)) if numbers else (NO_LABEL,)

    def _unknown(self, said: str) -> str:
        hint = label_hint(said, list(self.numbers), multi=self.kind == "multi")
        return f"label {said[:80]!r} is not on the card" + (f"; {hint}" if hint else "")


def usable_rows(
    source: OpenSource, cleaner: Cleaner, *, bad: list[BadRow], left: list[LeftOut], progress: Progress, what: str
) -> Iterator[list[Row]]:
    """Stream a source's usable rows in lists of a few thousand; the others are put into `bad` and `left`.

    Raises:
        InputError: More rows are unusable than the spec's `bad_limit` allows; the line names the first and the count.
    """
    spec = cleaner.spec
    taken = seen = lost = 0
    for batch in source.batches(cleaner.columns.wanted):
        rows: list[Row] = []
        for row in cleaner.rows(batch):
            if isinstance(row, Row):
                if spec.limit is not None and taken >= spec.limit:
                    break
                taken += 1
                rows.append(row)
            elif isinstance(row, BadRow):
                bad.append(row)
                lost += row.lines
            else:
                left.append(row)
        seen += len(batch.row_nos)
        if lost > max(spec.bad_limit, _STOP_COUNTING_AT):
            break
        progress(seen, 0, what)
        if rows:
            yield rows
        if spec.limit is not None and taken >= spec.limit:
            break
    if lost > spec.bad_limit:
        raise too_many_bad(cleaner, bad)


def text_rows(source: OpenSource, cleaner: Cleaner) -> Iterator[Row]:
    """A source's rows that have a text; those without one are passed over, where a text is all that is wanted.

    Raises:
        InputError: More rows cannot be read than the spec's `bad_limit` allows.
    """
    bad: list[BadRow] = []
    taken = 0
    for batch in source.batches(cleaner.columns.wanted):
        for row in cleaner.rows(batch):
            if isinstance(row, BadRow) and row.reason != "empty_text":
                bad.append(row)
            elif isinstance(row, Row) and (cleaner.spec.limit is None or taken < cleaner.spec.limit):
                taken += 1
                yield row
        if sum(row.lines for row in bad) > cleaner.spec.bad_limit:
            raise too_many_bad(cleaner, bad)


def drawn_per_label(batches: Iterator[list[Row]], per_label: int, seed: int) -> Iterator[list[Row]]:
    """Keep `per_label` rows of each label: those with the smallest random numbers, so that fewer are a part of more.

    A row of several labels counts for each and stands once. Memory is bounded by what is kept.

    Yields:
        One list, in the order of the source.
    """
    import heapq

    import numpy as np

    rng = np.random.default_rng(seed)
    kept: dict[int, list[tuple[float, int, Row]]] = {}
    for rows in batches:
        for row, number in zip(rows, rng.random(len(rows)), strict=True):
            for label in row.labels:
                heap = kept.setdefault(label, [])
                entry = (-float(number), -row.row_no, row)
                if len(heap) < per_label:
                    heapq.heappush(heap, entry)
                elif entry[:2] > heap[0][:2]:
                    heapq.heapreplace(heap, entry)
    chosen = {row.row_no: row for heap in kept.values() for _, _, row in heap}
    if chosen:
        yield [chosen[row_no] for row_no in sorted(chosen)]


def too_many_bad(cleaner: Cleaner, bad: Sequence[BadRow]) -> InputError:
    """The one line for a source with too many unusable rows."""
    spec = cleaner.spec
    first = min(bad, key=lambda row: row.row_no)
    reasons: Counter[str] = Counter()
    for row in bad:
        reasons[row.reason] += row.lines
    lost = reasons.total()
    stopped = lost > max(spec.bad_limit, _STOP_COUNTING_AT)
    count = f"{lost:,}{' or more' if stopped else ''}"
    kinds = ", ".join(f"{reason} {n:,}" for reason, n in sorted(reasons.items()))
    words = f"{first.reason}: {first.detail}" if first.detail else first.reason
    rest = "" if lost == 1 else f"; in all {count} rows cannot be used ({kinds})"
    allowed = f" and {spec.bad_limit} are allowed" if spec.bad_limit else ""
    more = "" if stopped else f", or allow them: `{{path: {spec.name}, bad_limit: {lost}, ...}}`"
    return InputError(f"{words}{rest}{allowed}", where=cleaner.place(first.row_no), fix=f"Mend the file{more}")


def _json_value(value: Any) -> Any:
    """A cell of a user's own column as JSON has it."""
    if is_missing(value):
        return None
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode().replace("\x00", "\ufffd")
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").replace("\x00", "\ufffd")
    if isinstance(value, (list, tuple)):
        return [_json_value(item) for item in value]
    if isinstance(value, dict):
        return {str(_json_value(key)): _json_value(item) for key, item in value.items()}
    return value if isinstance(value, (bool, int, float)) else as_text(value)


def _true(value: Any) -> bool:
    return (isinstance(value, (int, float)) and value == 1) or str(value).strip().lower() in ("true", "1")


def _among(value: Any, wanted: Any) -> bool:
    options: Sequence[Any] = wanted if isinstance(wanted, (list, tuple)) else [wanted]
    return any(value == option or as_text(value) == as_text(option) for option in options)
