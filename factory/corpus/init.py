"""`factory init`: a task card and a pipeline to start from, out of a file of texts."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from factory.errors import InputError, WarehouseError
from factory.files import open_source
from factory.files.rows import Cleaner, Row
from factory.files.source import SourceSpec, choose_columns

_ROWS = 20_000
_MOST_LABELS = 200


def write_start(
    file: Path,
    out: Path,
    *,
    text: str | None = None,
    label: str | None = None,
    labels: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Write `task.yaml` and `pipeline.yaml`, with what a person must fill in marked.

    Args:
        file: Texts, in any form that `ingest` reads.
        out: Folder for the two files; nothing that is there is overwritten.
        text: The column of the texts; guessed otherwise.
        label: The column of the labels, if there is one; guessed otherwise.
        labels: The labels, where the file has none; the card has them in this order.

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
    spec = SourceSpec(path=str(file), text=text, label=label, bad_limit=_ROWS)
    _, source = open_source(spec)
    columns = choose_columns(spec, source.columns, (), gold=False)
    says = [*source.says, *columns.guessed]
    has_gold = label is not None
    if labels is None or has_gold:
        try:
            columns = choose_columns(spec, source.columns, (), gold=True)
            has_gold = True
            says = [*source.says, *columns.guessed]
        except InputError:
            if label is not None:
                raise
            if labels is None:
                raise InputError(
                    "there is no column of labels, and no labels are given",
                    where=file,
                    fix="Name the column with --label, or the labels with --labels ham,spam",
                ) from None
    elif (unused := _column_of_labels(spec, source.columns)) is not None:
        says.append(f"column `{unused}` is not read, since the labels are given; --label {unused} takes it as gold")
    found = _labels(source, spec, columns) if has_gold else Counter()
    names = list(dict.fromkeys(labels or sorted(found)))
    if len(names) < 2:
        raise InputError(
            f"a task needs two labels or more, and there {'is one' if names else 'are none'}",
            where=file,
            fix="Use --labels",
        )
    if len(names) > _MOST_LABELS:
        raise InputError(
            f"column `{columns.label}` has more than {_MOST_LABELS} different values",
            where=file,
            fix="Name another with --label",
        )
    multi = has_gold and _is_multi(source, columns)
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", file.name.split(".")[0]).strip("-_") or "task"
    card = _card(name, names, multi)
    line = _pipeline(name, file, out, columns.text[0], columns.label if has_gold else None)
    try:
        out.mkdir(parents=True, exist_ok=True)
        card_path.write_text(card, encoding="utf-8")
        line_path.write_text(line, encoding="utf-8")
    except OSError as error:
        raise WarehouseError(
            f"cannot be written: {error.strerror}", where=out, fix="Choose another folder with --out"
        ) from error
    if has_gold:
        counts = ", ".join(f"{label_name} {count:,}" for label_name, count in found.most_common(8))
        says.append(
            f"{file}: {len(names)} labels among the first {min(sum(found.values()), _ROWS):,} labelled rows ({counts})"
        )
    says.append(
        f"{card_path}: say in one or two sentences what each label means; everything the model does rests on that"
    )
    return {"task": str(card_path), "pipeline": str(line_path), "says": says}


def _column_of_labels(spec: SourceSpec, columns: Sequence[str]) -> str | None:
    try:
        return choose_columns(spec, columns, (), gold=True).label
    except InputError:
        return None


def _labels(source: Any, spec: SourceSpec, columns: Any) -> Counter[str]:
    """How often each value of the label column stands in the first rows."""
    assert columns.label is not None
    counts: Counter[str] = Counter()
    rows = 0
    cleaner = Cleaner(spec, columns.__class__(columns.text, None, None, None, ()), (), {}, "single")
    for batch in source.batches(columns.wanted):
        usable = {row.row_no for row in cleaner.rows(batch) if isinstance(row, Row)}
        for row_no, value in zip(batch.row_nos, batch.columns[columns.label], strict=True):
            if row_no not in usable or value in (None, "", []):
                continue
            for item in value if isinstance(value, list) else [value]:
                counts[str(item).strip()] += 1
        rows += len(batch.row_nos)
        if rows >= _ROWS or len(counts) > 10 * _MOST_LABELS:
            break
    return counts


def _is_multi(source: Any, columns: Any) -> bool:
    """Whether some row of the first batch holds a list of labels that is not of one label."""
    batch = next(iter(source.batches([columns.label])), None)
    return batch is not None and any(isinstance(value, list) for value in batch.columns[columns.label])


def _card(name: str, labels: Sequence[str], multi: bool) -> str:
    """A task card as YAML, with marks where a person must write."""
    rows = "".join(
        f"  - name: {_scalar(label)}\n    description: TODO what a text with this label says or is about.\n"
        for label in labels
    )
    return (
        f"name: {name}\nkind: {'multi' if multi else 'single'}\n"
        '# A phrase: "a comment that somebody left under a music video".\ntext: a text\n'
        "# What each label means, in one or two sentences that a stranger could label by.\n"
        f"labels:\n{rows}"
        '# How to decide hard cases. May be empty.\nguidelines: ""\n'
    )


def _pipeline(name: str, file: Path, out: Path, text: str, label: str | None) -> str:
    """A pipeline as YAML. With gold in the file, its rows are training texts whose labels only the full-gold row reads."""
    path = _scalar(os.path.relpath(file.absolute(), out.absolute()))
    source = f"{{path: {path}, text: {_scalar(text)}"
    gold = f"  reference: {source}, label: {_scalar(label)}}}\n" if label else ""
    return (
        f"name: {name}\ntask: task.yaml\n"
        "# Any OpenAI-compatible server: your own (vllm serve MODEL --port 8000) or a hosted one (api_key_env: the variable\n"
        "# that holds its key). Without a server: {kind: transformers, model: MODEL} on a CPU, or `factory batch`.\n"
        'engine: {kind: server, url: "http://127.0.0.1:8000/v1", model: MODEL}\n'
        "data:\n"
        f"  train: {source}}}\n{gold}"
        "  # Gold that people labelled: dev for choices, test for evaluation alone.\n"
        f"  # dev: {{path: dev.csv, text: {_scalar(text)}, label: label}}\n"
        f"  # test: {{path: test.csv, text: {_scalar(text)}, label: label}}\n"
        "# The steps: ingest, author, vote, synthesize, vote, denoise, distill, annotate (with test), evaluate, export,\n"
        "# report. A step's parameters are given by its name; `false` leaves it out:\n"
        "steps:\n  author: {programs: 20}\n  # synthesize: false\n"
    )


def _scalar(value: str) -> str:
    """A YAML scalar on one line, quoted where it must be."""
    import yaml

    dumped = (
        yaml.safe_dump(value, default_style=None, allow_unicode=True, width=10_000).strip().removesuffix("...").strip()
    )
    return (
        dumped
        if not re.search(r"[,\[\]{}]", value) or dumped[0] in "'\""
        else yaml.safe_dump(value, default_style='"', width=10_000).strip()
    )
