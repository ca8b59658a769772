"""Which labels a column holds, and how several of them stand in one cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from factory.files.base import OpenSource, place
from factory.files.columns import Columns
from factory.files.labels import SEPARATORS, label_items, written_list
from factory.files.rows import Cleaner, Row
from factory.files.source import SourceSpec
from factory.files.values import as_text, is_missing
from factory.names import loose_label

_SURE = (";", "|")
"""Separators that hardly ever stand in a label's own name."""


@dataclass(frozen=True)
class FoundLabels:
    """The labels of a column.

    Attributes:
        names: In alphabetical order, as the card is to call them.
        counts: How often each stands.
        rows: Rows with a label.
        multi: Whether a text may have several.
        separator: What stands between several labels in a cell, if anything must be told.
        says: Lines for a person.
    """

    names: tuple[str, ...] = ()
    counts: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    multi: bool = False
    separator: str | None = None
    says: tuple[str, ...] = ()


def find_labels(spec: SourceSpec, source: OpenSource, columns: Columns, *, most: int, rows: int) -> FoundLabels:
    """The labels among the first rows of a source.

    Args:
        spec: What the user said.
        source: Where they are.
        columns: With a label.
        most: Stop at so many different ones.
        rows: Stop at so many rows.
    """
    values: Counter[str] = Counter()
    first_at: dict[str, int] = {}
    listed = False
    labelled = 0
    for row_no, value in _cells(spec, source, columns, rows):
        labelled += 1
        items = value if isinstance(value, (list, tuple)) else [value]
        listed = listed or isinstance(value, (list, tuple))
        for item in items:
            text = as_text(item).strip()
            if text and not is_missing(item, untyped=source.kind == "csv"):
                values[text] += 1
                first_at.setdefault(text, row_no)
        if len(values) > most:
            break
    written = {text: found for text in values if (found := written_list(text)) is not None}
    separator = spec.label_separator
    if not listed and separator is None and not written:
        separator = _separator(values)
    written_so: Counter[str] = Counter()
    for text, count in values.items():
        for name in label_items(text, separator, lambda _: None) if not listed else [text]:
            written_so[name] += count
    counts: Counter[str] = Counter()
    alike: list[tuple[str, str]] = []
    for name, count in written_so.items():
        key = loose_label(name)  # `1` and `1.0`, `True` and `true` are read as one
        alike += [(key, name)] if key in counts and name != key else []
        counts[key] += count
    says = []
    if written:
        says.append(
            _told(spec, source, first_at, next(iter(written)), "holds lists of labels, so a text may have several")
        )
    elif separator is not None:
        many = next((text for text in values if separator in text), "")
        says.append(
            _told(spec, source, first_at, many, f"is taken as several labels; `label_separator: {separator!r}` says so")
        )
    says += [f"{spec.path}: {one!r} and {other!r} are taken as one label" for one, other in alike]
    multi = listed or bool(written) or separator is not None
    return FoundLabels(tuple(sorted(counts)), counts, labelled, multi, separator, tuple(says))


def _cells(spec: SourceSpec, source: OpenSource, columns: Columns, most: int) -> Iterator[tuple[int, Any]]:
    """What stands in the label column of the first usable rows, where anything does."""
    assert columns.label is not None
    cleaner = Cleaner(spec, source, Columns(columns.text), (), {}, "single")
    seen = 0
    for batch in source.batches(columns.wanted):
        usable = {row.row_no for row in cleaner.rows(batch) if isinstance(row, Row)}
        for row_no, value in zip(batch.row_nos, batch.columns[columns.label], strict=True):
            if row_no in usable and not is_missing(value, untyped=cleaner.untyped) and value not in ("", []):
                yield row_no, value
        seen += len(batch.row_nos)
        if seen >= most:
            return


def _separator(values: Mapping[str, int]) -> str | None:
    """What stands between several labels in a cell; None where every cell is one.

    A semicolon or a bar is believed at sight. A comma or `#` may belong to a name: it is believed only if every part of every
    such cell is a label elsewhere, alone or beside another.
    """
    for mark in SEPARATORS:
        cells = [[part.strip() for part in text.split(mark)] for text in values if mark in text]
        if not cells or not all(part for cell in cells for part in cell):
            continue
        if mark in _SURE:
            return mark
        whole = {text for text in values if mark not in text}
        beside = Counter(part for cell in cells for part in set(cell))
        if all(part in whole or beside[part] > 1 for part in beside):
            return mark
    return None


def _told(spec: SourceSpec, source: OpenSource, first_at: Mapping[str, int], text: str, what: str) -> str:
    return f"{place(spec.path, first_at.get(text, 1), source.kind)}: {text[:60]!r} {what}"
