"""Questions out and answers in: CSV, JSONL, and Label Studio tasks. A text is named by its content hash."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from factory.errors import InputError
from factory.files.base import ReadOptions, place
from factory.files.columns import Picker
from factory.files.open import open_source
from factory.files.replace import refuse_to_replace, replaced
from factory.files.values import as_text, is_missing, surrogate_fault
from factory.names import LabelNames

FIELDS = ("id", "text", "suggested", "probability", "why", "label", "source")


def check_target(path: Path, *, force: bool = False) -> None:
    """Refuse to write over anything but questions that nobody has answered yet.

    Raises:
        InputError: Another ending, another file, or answers that would be lost.
    """
    if path.suffix not in (".csv", ".jsonl", ".json"):
        raise InputError("questions are written as .csv, .jsonl or .json (Label Studio tasks)", where=path)

    def questions(names: Sequence[str]) -> bool:
        return {"id", "text", "why", "label"} <= set(names) or {"data"} == set(names) - {"predictions"}

    refuse_to_replace(path, questions, "file of questions", force=force)
    if path.is_file() and path.stat().st_size and not force and path.suffix != ".json":
        answered = sum(1 for _, _, said in _rows(path) if said)
        if answered:
            raise InputError(
                f"{answered} questions in this file are answered",
                where=path,
                fix="Read them with --read, then write to another file; or say --force to lose them",
            )


def write_questions(
    path: Path, rows: Sequence[Mapping[str, Any]], labels: Sequence[str], *, multi: bool, force: bool = False
) -> Path | None:
    """Write questions with an empty `label` to be filled in; the form follows from the file's ending.

    Args:
        path: Where to.
        rows: With the keys `FIELDS`, and the user's own columns after them; several suggested labels are separated by `|`.
        labels: Label names to choose from, for Label Studio's labelling interface.
        multi: Whether a text may have several.
        force: Whether any file that is there may be replaced.

    Returns:
        For Label Studio tasks the file with the labelling interface (.xml beside `path`), else None.

    Raises:
        InputError: Another ending than .csv, .jsonl or .json, or a file that would be lost.
    """
    check_target(path, force=force)
    names = list(dict.fromkeys([*FIELDS, *(name for row in rows for name in row)]))
    with replaced(path) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(rows)
        elif path.suffix == ".jsonl":
            file.writelines(json.dumps(dict(row), ensure_ascii=False) + "\n" for row in rows)
        else:
            json.dump([_task(row) for row in rows], file, ensure_ascii=False, indent=1)
    if path.suffix != ".json":
        return None
    interface = path.with_suffix(".xml")
    choices = "".join(f"    <Choice value={quoteattr(label)}/>\n" for label in labels)
    many = "multiple" if multi else "single"
    with replaced(interface) as draft:
        draft.write_text(
            f'<View>\n  <Text name="text" value="$text"/>\n  <Choices name="label" toName="text" choice="{many}">\n{choices}'
            "  </Choices>\n</View>\n",
            encoding="utf-8",
        )
    return interface


def read_answers(path: Path, labels: Sequence[str], *, multi: bool) -> tuple[dict[str, list[str]], int]:
    """Read filled-in questions.

    Args:
        path: A file as `write_questions` writes it, with labels filled in, or Label Studio's JSON export.
        labels: Known label names.
        multi: Whether a text may have several labels (separated by `|`) or none (`-`).

    Returns:
        Labels by text id (the last answer counts), and how many questions are still empty.

    Raises:
        InputError: No such file, no such form, a row without an id, or an unknown label; with its line.
    """
    find = LabelNames(labels)
    found: dict[str, list[str]] = {}
    empty = 0
    for where, name, said in _rows(path):
        if not name:
            raise InputError("the question has no `id`", where=where, fix="Keep the column `id` as it was written")
        given = [part for one in said for part in (_parts(one, find) if multi else [one])]
        if not given:
            empty += 1
            continue
        if multi and given == ["-"]:
            given = []
        for label in given:
            if find(label) is None:
                raise InputError(f"{label!r} is not one of the labels", where=where, fix=f"Use {', '.join(labels)}")
        if not multi and len(given) > 1:
            raise InputError("a text of this task has one label", where=where)
        found[name] = [str(find(label)) for label in given]
    return found, empty


def _parts(said: str, find: LabelNames) -> list[str]:
    """The labels in one cell: one that is a label's whole name is not cut."""
    return [said] if find(said) is not None else [part.strip() for part in said.split("|") if part.strip()]


def _rows(path: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Where each question stands, its id, and what was said.

    Raises:
        InputError: A file that cannot be read, or is not in the form that `ask` writes.
    """
    source = open_source(ReadOptions(path))
    tasks = "data.id" in source.columns
    if source.kind not in ("csv", "jsonl", "json"):
        raise InputError("answers are read from .csv, .jsonl or .json (Label Studio's export)", where=path)
    pick = Picker(str(path), source)
    id_column, label = ("data.id", "annotations") if tasks else (pick.find("id"), pick.find("label"))
    if id_column is None or (label is None and not tasks):
        raise InputError(
            "this is not in the form that `ask` writes", where=path, fix="Keep the columns `id` and `label`"
        )
    for batch in source.batches([id_column, str(label)]):
        if batch.bad:
            first = min(batch.bad, key=lambda row: row.row_no)
            raise InputError(f"{first.reason}: {first.detail}", where=place(path, first.row_no, source.kind))
        for row_no, name, said in zip(batch.row_nos, batch.columns[id_column], batch.columns[str(label)], strict=True):
            cells = said if isinstance(said, list) else [said]
            given = _chosen(said) if tasks else [as_text(one).strip() for one in cells]
            name_there = "" if is_missing(name) else as_text(name).strip()
            fault = next((fault for one in given if (fault := surrogate_fault(one, None)) is not None), None)
            if fault is not None:
                raise InputError(fault[1], where=place(path, row_no, source.kind), fix="Save the file as UTF-8")
            yield place(path, row_no, source.kind), name_there, [one for one in given if one]


def _task(row: Mapping[str, Any]) -> dict[str, Any]:
    data = {name: value for name, value in row.items() if name not in ("suggested", "probability", "label")}
    task: dict[str, Any] = {"data": data}
    suggested = [label for label in str(row["suggested"]).split("|") if label]
    if suggested:
        choice = {"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": suggested}}
        task["predictions"] = [{"result": [choice], "score": row["probability"]}]
    return task


def _chosen(annotations: Any) -> list[str]:
    """The choices of a Label Studio task's last annotation that was not cancelled."""
    for annotation in reversed(annotations or []):
        if isinstance(annotation, Mapping) and not annotation.get("was_cancelled"):
            parts = annotation.get("result") or []
            return [choice for part in parts for choice in part.get("value", {}).get("choices", [])]
    return []
