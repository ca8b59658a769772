"""Keeping a trained student: its files beside the warehouse, its rows and trials within."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.errors import InputError
from factory.files.exchange import take_place

if TYPE_CHECKING:
    from factory.distill.curate import Curated
    from factory.distill.read import Classes
    from factory.students.base import Student, Trial
    from factory.warehouse.file import Warehouse


def path_of(key: str) -> str:
    """The folder of a student's files, below the warehouse's artefacts."""
    return f"models/{key[:16]}"


def store(
    warehouse: Warehouse,
    classes: Classes,
    system: str,
    key: str,
    wanted: dict[str, Any],
    params: dict[str, Any],
    rows: Curated,
    kind: str,
    tried: Sequence[tuple[str, Trial]],
) -> None:
    """Store a student in one transaction, in place of an earlier one of its system.

    Args:
        warehouse: Where to.
        classes: Its labels.
        system: Its system.
        key: Digest of `wanted`.
        wanted: Everything it depends on.
        params: What came of it, the name of its `encoder` among it.
        rows: Every text with what became of it.
        kind: A name in `STUDENTS`.
        tried: Criterion, and configuration with its loss, of what was tried beside the trials that `choose` keeps.
    """
    import pyarrow as pa

    from factory.warehouse.file import insert, next_no

    widened = classes.widen(rows.probs)
    offsets = pa.array(np.arange(0, widened.size + 1, widened.shape[1], dtype=np.int32))
    lists = pa.ListArray.from_arrays(offsets, pa.array(widened.astype(np.float32).reshape(-1)))
    with warehouse.lease() as db:
        forget(db, system, keep_trials_of=key)
        model_no = next_no(db, "models", "model_no")
        db.execute(
            "INSERT INTO models (model_no, key, system, student, encoder, config, params, path)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                model_no, key, system, kind, params["encoder"],
                json.dumps(wanted, sort_keys=True), json.dumps(params, sort_keys=True), path_of(key),
            ],
        )  # fmt: skip
        insert(
            db,
            "model_rows",
            {
                "model_no": [model_no] * len(rows.text_nos),
                "text_no": pa.array(rows.text_nos, pa.int32()),
                "origin": rows.origins,
                "probs": lists,
                "weight": pa.array(rows.weights.astype(np.float32)),
                "drop_reason": pa.array(rows.reasons, pa.string()),
            },
        )
        if tried:
            criteria = sorted({criterion for criterion, _ in tried})
            db.execute("DELETE FROM trials WHERE key = ? AND criterion IN (SELECT unnest(?))", [key, criteria])
            (first,) = db.execute("SELECT coalesce(max(trial_no), 0) + 1 FROM trials WHERE key = ?", [key]).fetchall()[
                0
            ]
            insert(
                db,
                "trials",
                {
                    "key": [key] * len(tried),
                    "system": [system] * len(tried),
                    "trial_no": pa.array(range(first, first + len(tried)), pa.int32()),
                    "config": [json.dumps(config) for _, (config, _) in tried],
                    "criterion": [criterion for criterion, _ in tried],
                    "score": pa.array([-loss for _, (_, loss) in tried], pa.float64()),
                },
            )


def forget(db: Any, system: str, keep_trials_of: str = "") -> None:
    """Delete a system's student, its rows, and the trials of any key but one."""
    db.execute("DELETE FROM model_rows WHERE model_no IN (SELECT model_no FROM models WHERE system = ?)", [system])
    db.execute("DELETE FROM models WHERE system = ?", [system])
    db.execute("DELETE FROM trials WHERE system = ? AND key <> ?", [system, keep_trials_of])


def write_folder(student: Student, folder: Path) -> None:
    """Write a student beside its place, then move it there: a kill leaves the old folder or the new one."""
    draft = folder.with_name(folder.name + ".draft")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(parents=True)
        student.save(draft)
        take_place(draft, folder)
    except OSError as error:
        raise InputError(f"the student cannot be written: {error.strerror}", where=folder) from error
