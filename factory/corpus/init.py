"""`factory init`: a task card and a pipeline to start from, out of a file of texts."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from factory.corpus.init_labels import FoundLabels, find_labels
from factory.corpus.init_yaml import card_text, pipeline_text
from factory.errors import InputError, WarehouseError
from factory.files.base import BadRow, OpenSource
from factory.files.columns import Columns, choose_columns
from factory.files.open import format_by_name, open_source, sniffed_format
from factory.files.replace import replaced
from factory.files.rows import Cleaner
from factory.files.source import SourceSpec
from factory.task import TaskCard, load_card

ROWS = 20_000
"""How many rows are looked at."""

_MOST_LABELS = 200
_ENCODINGS = ("cp1252", "latin-1")
_CLI = "--{}"


@dataclass(frozen=True)
class Opened:
    """A file, opened as a pipeline will say it.

    Attributes:
        spec: The source.
        source: The same, open.
        columns: Those that are read.
        says: What was guessed, for a person.
    """

    spec: SourceSpec
    source: OpenSource
    columns: Columns
    says: tuple[str, ...]


def write_start(
    file: Path, out: Path, *, text: str | None = None, label: str | None = None, labels: Sequence[str] | None = None,
    told: dict[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Write `task.yaml` and `pipeline.yaml`, with what a person must fill in marked. What they say, `ingest` reads.

    Args:
        file: Texts, in any form that `ingest` reads.
        out: Folder for the two files; nothing that is there is overwritten.
        text: The column of the texts; guessed otherwise.
        label: The column of the labels, if there is one; guessed otherwise.
        labels: The labels, where the file has none; the card has them in this order.
        told: More of what a source may say: `format`, `encoding`, `delimiter`, `columns`, `label_separator`.

    Returns:
        `task` and `pipeline` (paths), and `says`: lines for a person.

    Raises:
        InputError: The file cannot be read, a column is missing, fewer than two labels, or a file is there already.
        WarehouseError: The folder cannot be written.
    """
    card_path, line_path = out / "task.yaml", out / "pipeline.yaml"
    for path in (card_path, line_path):
        if path.exists():
            raise InputError("this file is there already", where=path, fix="Choose another folder with --out")
    opened = open_file(file, text, label, labels, dict(told or {}))
    says = list(opened.says)
    found = FoundLabels()
    if opened.columns.label is not None:
        found = find_labels(opened.spec, opened.source, opened.columns, most=10 * _MOST_LABELS, rows=ROWS)
        says += found.says
    names = list(dict.fromkeys(labels or found.names))
    _check_names(names, file, opened.columns.label)
    name = task_name(file)
    card = _card(name, names, found.multi, file, opened.columns.label)
    spec = opened.spec.model_copy(update={"label_separator": found.separator or opened.spec.label_separator})
    bad = _unusable(replace(opened, spec=spec), card)
    if bad:
        lost = sum(row.lines for row in bad)
        where = Cleaner(spec, opened.source, opened.columns, (), {}, "single").place(bad[0].row_no)
        says.append(f"{where}: {bad[0].reason}; {lost} of the first rows cannot be used, which `bad_limit` allows")
        spec = spec.model_copy(update={"bad_limit": lost})
    line = pipeline_text(name, os.path.relpath(file.absolute(), out.absolute()), spec, opened.columns)
    try:
        with replaced(card_path) as draft:
            draft.write_text(card_text(name, names, found.multi), encoding="utf-8")
        with replaced(line_path) as draft:
            draft.write_text(line, encoding="utf-8")
    except OSError as error:
        raise WarehouseError(
            f"cannot be written: {error.strerror}", where=out, fix="Choose another folder with --out"
        ) from error
    if opened.columns.label is not None:
        counts = ", ".join(f"{one} {count:,}" for one, count in found.counts.most_common(8))
        says.append(f"{file}: {len(names)} labels among the first {min(found.rows, ROWS):,} labelled rows ({counts})")
    says.append(
        f"{card_path}: say in one or two sentences what each label means; everything the model does rests on that"
    )
    return {"task": str(card_path), "pipeline": str(line_path), "says": says}


def task_name(file: Path) -> str:
    """The name of a task after its file."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", file.name.split(".")[0]).strip("-_")[:64] or "task"


def open_file(
    file: Path, text: str | None, label: str | None, labels: Sequence[str] | None, told: dict[str, Any]
) -> Opened:
    """Open the file, finding out what a pipeline must say of it, and choose its columns.

    Args:
        file: The file.
        text: The column of the texts; guessed otherwise.
        label: The column of the labels; guessed otherwise.
        labels: The labels, where they are not read from the file; an empty sequence where none are wanted.
        told: More of what a source may say.

    Raises:
        InputError: The file cannot be read, or a column is missing.
    """
    says: list[str] = []
    if "format" not in told and file.is_file() and format_by_name(file) is None:
        told["format"] = sniffed_format(file)
        says.append(f"{file}: read as {told['format']} (guessed; --format says another)")
    spec = SourceSpec(path=str(file), text=text, label=label, **told)
    source = open_source(spec.reading())
    if spec.encoding is None and source.kind in ("csv", "jsonl", "json", "lines"):
        encoding = _encoding(spec, source)
        if encoding is not None:
            spec = spec.model_copy(update={"encoding": encoding})
            source = open_source(spec.reading())
            says.append(f"{file}: not UTF-8, read as {encoding} (guessed; --encoding says another)")
    if source.delimiter not in (None, ","):
        spec = spec.model_copy(update={"delimiter": source.delimiter})
    columns, words = _columns(spec, source, labels)
    return Opened(spec, source, columns, (*says, *source.says, *words))


def _columns(spec: SourceSpec, source: OpenSource, labels: Sequence[str] | None) -> tuple[Columns, list[str]]:
    """The columns, with that of the labels if there is one and they are not given otherwise."""
    plain = choose_columns(spec, source, (), gold=False, option=_CLI)
    if labels is not None and not labels and spec.label is None:
        return plain, list(plain.guessed)
    try:
        with_gold = choose_columns(spec, source, (), gold=True, option=_CLI)
    except InputError:
        if spec.label is not None:
            raise
        if labels is None:
            raise InputError(
                "there is no column of labels, and no labels are given",
                where=spec.path,
                fix="Name the column with --label, or the labels with --labels ham,spam",
            ) from None
        return plain, list(plain.guessed)
    if labels is None or spec.label is not None:
        return with_gold, list(with_gold.guessed)
    unused = with_gold.label
    words = f"column `{unused}` is not read, since the labels are given; --label {unused} takes it as gold"
    return plain, [*plain.guessed, words]


def _encoding(spec: SourceSpec, source: OpenSource) -> str | None:
    """The encoding of a file that is not UTF-8: the first under which all of its first rows are text; None if it is UTF-8."""
    if not _has_stray_bytes(source):
        return None
    for name in _ENCODINGS:
        if not _has_stray_bytes(open_source(spec.model_copy(update={"encoding": name}).reading())):
            return name
    return None


def _has_stray_bytes(source: OpenSource) -> bool:
    """Whether bytes among the first rows did not decode."""
    seen = 0
    names = list(source.columns)
    if any("\udc80" <= c <= "\udcff" for name in names for c in name):
        return True
    for batch in source.batches(names):
        for name in names:
            for value in batch.columns[name]:
                if isinstance(value, str) and not value.isascii() and any("\udc80" <= c <= "\udcff" for c in value):
                    return True
        seen += len(batch.row_nos)
        if seen >= ROWS:
            break
    return False


def _unusable(opened: Opened, card: TaskCard) -> list[BadRow]:
    """The first rows that `ingest` would refuse, as training texts and as their gold."""
    numbers = {name: number for number, name in enumerate(card.label_names)}
    cleaner = Cleaner(opened.spec, opened.source, opened.columns, (), numbers, card.kind, gold_optional=True)
    found: list[BadRow] = []
    seen = 0
    for batch in opened.source.batches(opened.columns.wanted):
        found += [row for row in cleaner.rows(batch) if isinstance(row, BadRow)]
        seen += len(batch.row_nos)
        if seen >= ROWS:
            break
    return sorted(found, key=lambda row: row.row_no)


def _check_names(names: Sequence[str], file: Path, column: str | None) -> None:
    if len(names) < 2:
        raise InputError(
            f"a task needs two labels or more, and there {'is one' if names else 'are none'}",
            where=file,
            fix="Use --labels",
        )
    if len(names) > _MOST_LABELS:
        raise InputError(
            f"column `{column}` has more than {_MOST_LABELS} different values",
            where=file,
            fix="Name another with --label",
        )


def _card(name: str, names: Sequence[str], multi: bool, file: Path, column: str | None) -> TaskCard:
    """The card as it will be read, so that nothing is written that could not be.

    Raises:
        InputError: A name cannot be a label's.
    """
    try:
        kind, meanings = "multi" if multi else "single", dict.fromkeys(names, "TODO")
        return load_card({"name": name, "kind": kind, "text": "a text", "labels": meanings})
    except InputError as error:
        where = f"column `{column}`" if column else "--labels"
        raise InputError(
            f"{where} holds what cannot be a label: {error.what}",
            where=file,
            fix="Name another with --label, or mend it",
        ) from error
