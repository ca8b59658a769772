"""Questions out and answers in: CSV, JSONL, and Label Studio tasks. A text is named by its content hash."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from factory.errors import InputError

FIELDS = ("id", "text", "suggested", "probability", "why", "label")


def check_ending(path: Path) -> None:
    """Refuse a file that questions cannot be written to.

    Raises:
        InputError: Another ending than .csv, .jsonl or .json.
    """
    if path.suffix not in (".csv", ".jsonl", ".json"):
        raise InputError("questions are written as .csv, .jsonl or .json (Label Studio tasks)", where=path)


def write_questions(
    path: Path, rows: Sequence[Mapping[str, Any]], labels: Sequence[str], *, multi: bool
) -> Path | None:
    """Write questions with an empty `label` to be filled in; the form follows from the file's ending.

    Args:
        path: Where to.
        rows: With the keys `FIELDS`; several suggested labels are separated by `|`.
        labels: Label names to choose from, for Label Studio's labelling interface.
        multi: Whether a text may have several.

    Returns:
        For Label Studio tasks the file with the labelling interface (.xml beside `path`), else None.

    Raises:
        InputError: Another ending than .csv, .jsonl or .json.
    """
    check_ending(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, FIELDS, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
        return None
    if path.suffix == ".jsonl":
        lines = (json.dumps({name: row[name] for name in FIELDS}, ensure_ascii=False) for row in rows)
        path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        return None
    path.write_text(json.dumps([_task(row) for row in rows], ensure_ascii=False, indent=1), encoding="utf-8")
    interface = path.with_suffix(".xml")
    choices = "".join(f"    <Choice value={quoteattr(label)}/>\n" for label in labels)
    many = "multiple" if multi else "single"
    interface.write_text(
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
        InputError: No such file, no such form, a row without an id, or an unknown label; with the row.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=path) from error
    except UnicodeDecodeError as error:
        raise InputError("the file is not UTF-8 text", where=path, fix="Save it as UTF-8") from error
    csv.field_size_limit(1 << 27)
    try:
        if path.suffix == ".csv":
            rows = [(row.get("id"), row.get("label")) for row in csv.DictReader(io.StringIO(text))]
        elif path.suffix == ".jsonl":
            rows = [(row.get("id"), row.get("label")) for row in map(json.loads, filter(str.strip, text.split("\n")))]
        elif path.suffix == ".json":
            rows = [_answered(task) for task in json.loads(text)]
        else:
            raise InputError("answers are read from .csv, .jsonl or .json (Label Studio's export)", where=path)
    except (csv.Error, json.JSONDecodeError, AttributeError, TypeError, KeyError) as error:
        raise InputError("this is not in the form that `ask` writes", where=path) from error
    found: dict[str, list[str]] = {}
    empty = 0
    for number, (name, said) in enumerate(rows, start=1):
        if not name:
            raise InputError(
                "the question has no `id`", where=f"{path}:{number}", fix="Keep the column `id` as it was written"
            )
        given = (
            said
            if isinstance(said, list)
            else [part.strip() for part in str(said or "").split("|")]
            if multi
            else [str(said or "").strip()]
        )
        given = [part for part in given if part]
        if not given:
            empty += 1
            continue
        if multi and given == ["-"]:
            given = []
        for label in given:
            if label not in labels:
                raise InputError(
                    f"{label!r} is not one of the labels", where=f"{path}:{number}", fix=f"Use {', '.join(labels)}"
                )
        if not multi and len(given) > 1:
            raise InputError("a text of this task has one label", where=f"{path}:{number}")
        found[name] = given
    return found, empty


def _task(row: Mapping[str, Any]) -> dict[str, Any]:
    task: dict[str, Any] = {"data": {"id": row["id"], "text": row["text"], "why": row["why"]}}
    suggested = [label for label in str(row["suggested"]).split("|") if label]
    if suggested:
        choice = {"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": suggested}}
        task["predictions"] = [{"result": [choice], "score": row["probability"]}]
    return task


def _answered(task: Mapping[str, Any]) -> tuple[str | None, list[str]]:
    for annotation in reversed(task.get("annotations") or []):
        if annotation.get("was_cancelled"):
            continue
        said = [choice for part in annotation.get("result", []) for choice in part.get("value", {}).get("choices", [])]
        return task["data"].get("id"), said
    return task["data"].get("id"), []
