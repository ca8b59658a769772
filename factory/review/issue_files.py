"""Likely label errors as a file, .csv or .jsonl: one row per issue, its evidence as JSON."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from factory.errors import InputError

COLUMNS = ("text_no", "text", "label", "given", "likely", "score", "evidence")


def check_ending(path: Path) -> None:
    """Refuse another ending than .csv or .jsonl.

    Raises:
        InputError: It is another.
    """
    if path.suffix not in (".csv", ".jsonl"):
        raise InputError("issues are written as .csv or .jsonl", where=path)


def write_issues(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write issues as `factory.review.stage.audit` gives them; folders are made.

    Args:
        path: A .csv or .jsonl file.
        rows: With `COLUMNS` as keys.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for row in rows:
            told = {
                **row,
                "label": row["label"] or "",
                "evidence": json.dumps(row["evidence"], ensure_ascii=False),
            }
            writer.writerow([told[name] for name in COLUMNS])
