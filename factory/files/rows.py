"""From what a reader yields to texts with their identity and gold: every row is usable, or is refused with a reason."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from factory.canonical import canonical_json
from factory.files.base import BadRow, Batch
from factory.files.source import Columns, SourceSpec

NO_LABEL = -1
"""The label number of a `multi` text that has no label."""


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
    """

    row_no: int
    content_hash: bytes
    text: str
    fields: str | None = None
    labels: tuple[int, ...] = ()
    votes: tuple[int, ...] | None = None


@dataclass(frozen=True)
class LeftOut:
    """A row that is left out by rule and is no fault: a rule exemplar, or filtered away by `where` and `exclude`."""

    row_no: int
    reason: str


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
        columns: What its columns mean.
        fields: The card's fields; empty for plain texts.
        numbers: Label name to number, labels on the card alone.
        kind: `single` or `multi`.
        drop_exemplars: Whether marked rule exemplars are left out (of `train` and `reference`).
        gold_optional: Whether a row without a label is kept without gold rather than refused.
    """

    spec: SourceSpec
    columns: Columns
    fields: tuple[str, ...]
    numbers: Mapping[str, int]
    kind: str
    drop_exemplars: bool = False
    gold_optional: bool = False

    def rows(self, batch: Batch) -> Iterator[Row | BadRow | LeftOut]:
        """Every row of a batch, and then the rows the reader could not read."""
        for index, row_no in enumerate(batch.row_nos):
            yield self._row(row_no, batch, index)
        yield from batch.bad

    def _row(self, row_no: int, batch: Batch, index: int) -> Row | BadRow | LeftOut:
        left = self._left_out(batch, index)
        if left is not None:
            return LeftOut(row_no, left)
        parts: list[str] = []
        for name in self.columns.text:
            value = batch.columns[name][index]
            fault = self._fault(value, name)
            if fault is not None:
                return BadRow(row_no, *fault)
            parts.append(_as_text(value))
        if self.fields:
            values = dict(zip(self.fields, parts, strict=True))
            fields = canonical_json(values).decode()
            text = "\n".join(f"{name}: {value}" for name, value in values.items())
            if not any(part.strip() for part in parts):
                return BadRow(row_no, "empty_text", "every field is empty")
        else:
            fields, text = None, parts[0]
            if not text.strip():
                return BadRow(row_no, "empty_text", f"column {self.columns.text[0]!r} is empty")
        labels: tuple[int, ...] = ()
        if self.columns.label is not None:
            found = self._labels(batch.columns[self.columns.label][index])
            if isinstance(found, BadRow):
                return BadRow(row_no, found.reason, found.detail)
            labels = found
        votes = None
        if self.columns.votes is not None:
            given = batch.columns[self.columns.votes][index]
            votes = tuple(int(vote) for vote in given) if isinstance(given, (list, tuple)) else None
        return Row(row_no, content_hash(text, fields), text, fields, labels, votes)

    def _left_out(self, batch: Batch, index: int) -> str | None:
        if (
            self.drop_exemplars
            and self.columns.exemplar is not None
            and _true(batch.columns[self.columns.exemplar][index])
        ):
            return "exemplar"
        for name, wanted in self.spec.where.items():
            if not _among(batch.columns[name][index], wanted):
                return "where"
        for name, unwanted in self.spec.exclude.items():
            if _among(batch.columns[name][index], unwanted):
                return "exclude"
        return None

    def _fault(self, value: Any, name: str) -> tuple[str, str] | None:
        if value is None:
            if self.fields:
                return None
            return "empty_text", f"column {name!r} is empty"
        if isinstance(value, (list, dict, tuple)):
            return "broken_row", f"column {name!r} holds a {type(value).__name__}, not text"
        if isinstance(value, bytes):
            if not _is_utf8(value):
                return "not_utf8", f"column {name!r} holds bytes that are no UTF-8"
            value = value.decode()
        if not isinstance(value, str):
            return None
        if len(value) > self.spec.max_chars:
            return "too_long", f"{len(value):,} characters; the limit is {self.spec.max_chars:,} (`max_chars`)"
        if "\x00" in value:
            return "nul", f"a NUL character stands in column {name!r}"
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                if "\udc80" <= value[error.start] <= "\udcff" and self.spec.format != "parquet":
                    return "not_utf8", "bytes that are no UTF-8; if the whole file is so, name its `encoding:`"
                return "lone_surrogate", f"half of a surrogate pair at character {error.start + 1}"
        return None

    def _labels(self, value: Any) -> tuple[int, ...] | BadRow:
        if isinstance(value, (list, tuple)):
            names = [_as_text(item).strip() for item in value if item is not None]
        elif value is None:
            names = []
        else:
            text = _as_text(value).strip()
            if self.kind == "multi" and text.startswith("[") and text.endswith("]"):
                names = _listed(text)
            elif self.kind == "multi" and self.spec.label_separator:
                names = [part.strip() for part in text.split(self.spec.label_separator) if part.strip()]
            else:
                names = [text] if text else []
        if self.kind == "single" and not names:
            return () if self.gold_optional else BadRow(0, "empty_label", f"column {self.columns.label!r} is empty")
        if self.kind == "multi" and value is None and self.gold_optional:
            return ()
        if self.kind == "single" and len(names) > 1:
            return BadRow(0, "several_labels", f"{len(names)} labels in a task of kind 'single'")
        numbers: set[int] = set()
        for name in names:
            said = self.spec.renamed.get(name, name)
            number = self.numbers.get(said)
            if number is not None:
                numbers.add(number)
            elif self.spec.other_labels == "error":
                return BadRow(0, "unknown_label", f"label {said[:80]!r} is not on the card")
        if not numbers and self.kind == "single":
            return (
                () if self.gold_optional else BadRow(0, "unknown_label", f"label {names[0][:80]!r} is not on the card")
            )
        return tuple(sorted(numbers)) if numbers else (NO_LABEL,)


def _listed(text: str) -> list[str]:
    import json

    try:
        found = json.loads(text)
    except ValueError:
        return [part.strip().strip("'\"") for part in text[1:-1].split(",") if part.strip()]
    return [_as_text(item) for item in found]


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _true(value: Any) -> bool:
    return (
        value is True or (isinstance(value, (int, float)) and value == 1) or str(value).strip().lower() in ("true", "1")
    )


def _among(value: Any, wanted: Any) -> bool:
    options: Sequence[Any] = wanted if isinstance(wanted, (list, tuple)) else [wanted]
    return any(value == option or _as_text(value) == _as_text(option) for option in options)
