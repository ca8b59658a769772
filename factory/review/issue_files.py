"""Likely label errors as a file, .csv or .jsonl: one row per issue, its evidence as JSON."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from factory.errors import InputError
from factory.files.replace import refuse_to_replace, replaced

COLUMNS = ("text_no", "text", "source", "own", "label", "given", "likely", "score", "evidence")


def check_target(path: Path, *, force: bool) -> None:
    """Refuse another ending than .csv or .jsonl, and to replace a file that is not an earlier list of issues.

    Raises:
        InputError: It is another, or `force` is needed.
    """
    if path.suffix not in (".csv", ".jsonl"):
        raise InputError("issues are written as .csv or .jsonl", where=path)
    refuse_to_replace(path, lambda names: set(COLUMNS) <= set(names), "list of issues", force=force)


def write_issues(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write issues as `factory.review.stage.audit` gives them; folders are made.

    Args:
        path: A .csv or .jsonl file.
        rows: With `COLUMNS` as keys.
    """
    with replaced(path) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".jsonl":
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            return
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for row in rows:
            told = {**row, "label": row["label"] or ""}
            told |= {name: json.dumps(row[name], ensure_ascii=False) for name in ("evidence", "own")}
            writer.writerow([told[name] for name in COLUMNS])
