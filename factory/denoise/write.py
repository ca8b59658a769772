"""Writing fitted label models into the warehouse: block by block, and visible all at once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.denoise import choose as choosing
from factory.denoise.decide import decide, fill_uncovered
from factory.denoise.read import Texts
from factory.denoise.solve import ALWAYS, Solved
from factory.result import Progress
from factory.task import TaskCard

if TYPE_CHECKING:
    from factory.warehouse.file import Warehouse

WRITE_ROWS = 500_000


@dataclass(frozen=True)
class ModelRow:
    """One row of `label_models`: the model of each problem (by index), and whom it is for."""

    name: str
    models: list[str]
    systems: list[str]
    reason: str
    config: Mapping[str, Any]
    key: str


def plan_rows(solved: list[Solved], config: Mapping[str, Any], key: str) -> list[ModelRow]:
    """The rows of `label_models`: majority, snorkel, and whatever else is chosen."""
    wanted: dict[tuple[str, ...], tuple[str, list[str], str]] = {}
    for name in ALWAYS:
        if any(name in part.models for part in solved):
            picked = tuple(name if name in part.models else "majority" for part in solved)
            wanted.setdefault(picked, (name, [], "always stored, to compare with"))
    for system in ("student", "student_dev"):
        if system not in solved[0].choices:
            continue
        picked = tuple(part.choices[system][0] for part in solved)
        reasons = dict.fromkeys(part.choices[system][1].reason for part in solved)
        name = picked[0] if len(set(picked)) == 1 else "mixed"
        label, systems, _ = wanted.get(picked, (name, [], ""))
        wanted[picked] = (label, [*systems, system], "; ".join(reasons))
    rows = []
    for picked, (name, systems, reason) in wanted.items():
        detail = {**config, "systems": systems, "models": list(picked)}
        rows.append(ModelRow(name, list(picked), systems, reason, detail, key))
    return rows


def store(
    warehouse: Warehouse,
    texts: Texts,
    covered: np.ndarray,
    solved: list[Solved],
    plan: list[ModelRow],
    card: TaskCard,
    names: list[str],
    *,
    uncovered: Any,
    default: int | None,
    progress: Progress,
) -> None:
    """Write the probabilities of every text by every planned model, a block of texts in a transaction of its own.

    The last transaction makes them visible (rows of `label_models`) and takes those of earlier votes away; what a model
    learned from stays in `model_rows`. Killed before that, the same call goes on after the last block written: what it
    writes follows from the votes alone.
    """
    import pyarrow as pa

    from factory.warehouse.file import insert

    first = _draft(warehouse, plan[0].key)
    total = len(texts.numbers) * len(plan)
    for at, row in enumerate(plan):
        number = first + at
        written = int(warehouse.scalar("SELECT count(*) FROM soft_labels WHERE label_model_no = ?", [number]))
        if written >= len(texts.numbers):
            continue
        tables = [_table(part, name, uncovered, default) for part, name in zip(solved, row.models, strict=True)]
        for start in range(written, len(texts.numbers), WRITE_ROWS):
            progress(at * len(texts.numbers) + start, total, f"probabilities by {row.name}")
            block = slice(start, start + WRITE_ROWS)
            probs, known, tie = _rows(solved, tables, block, card, names, uncovered)
            flat = pa.array(probs.ravel(), pa.float32(), mask=None if known is None else ~known.ravel())
            with warehouse.lease() as db:
                insert(
                    db,
                    "soft_labels",
                    pa.table(
                        {
                            "label_model_no": np.full(len(probs), number, np.int32),
                            "text_no": texts.numbers[block].astype(np.int32),
                            "probs": pa.FixedSizeListArray.from_arrays(flat, probs.shape[1]).cast(
                                pa.list_(pa.float32())
                            ),
                            "covered": covered[block],
                            "tie": tie,
                        }
                    ),
                )
    with warehouse.lease() as db:
        db.execute("DELETE FROM soft_labels WHERE label_model_no < ?", [first])
        db.execute("UPDATE label_models SET chosen = false WHERE chosen")
        for number, row in enumerate(plan, start=first):
            params = {
                part.problem.title: _params(part, name, row) for part, name in zip(solved, row.models, strict=True)
            }
            db.execute(
                "INSERT INTO label_models (label_model_no, key, name, config, params, chosen, reason)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                [number, row.key, row.name, json.dumps(row.config), json.dumps(params), bool(row.systems), row.reason],
            )
        db.execute("DELETE FROM label_drafts")


def _draft(warehouse: Warehouse, key: str) -> int:
    """The number of the first model of a plan: as reserved by a run that was stopped, else a new one.

    Blocks that a run with another key left behind are deleted.
    """
    from factory.warehouse.file import next_no

    with warehouse.lease() as db:
        left = db.execute("SELECT first_no FROM label_drafts WHERE key = ?", [key]).fetchall()
        if left:
            return int(left[0][0])
        first = next_no(db, "label_models", "label_model_no")
        db.execute("DELETE FROM soft_labels WHERE label_model_no >= ?", [first])
        db.execute("DELETE FROM label_drafts")
        db.execute("INSERT INTO label_drafts VALUES (?, ?)", [key, first])
    return first


def _params(part: Solved, name: str, row: ModelRow) -> dict[str, Any]:
    """What a model learned, what it was compared with, and on dev its reliability."""
    found = {**part.models[name].params(), "refused": dict(part.refused)}
    if row.systems:
        found["scores"] = dict(part.choices[row.systems[-1]][1].scores)
    if part.reliability and "student_dev" in row.systems:
        found["reliability"] = dict(part.reliability)
    return found


@dataclass(frozen=True)
class _Table:
    """Probabilities [rows, classes], ties and coverage [rows] of one problem by one model, and the row of every text."""

    probs: np.ndarray
    ties: np.ndarray
    covered: np.ndarray
    row: np.ndarray


def _table(part: Solved, name: str, uncovered: Any, default: int | None) -> _Table:
    model, votes, row = part.models[name], part.votes, part.pattern
    if model.name == "joint" and part.features is not None:  # depends on the text: one row per text
        votes, row = part.everything, np.arange(len(part.everything))
        probs = choosing.predict(model, votes, **part.features.of(row))
    else:
        probs = model.predict_proba(votes)
    if part.problem.label is None:
        fallback = None if default is None else part.problem.class_of[default]
    else:
        fallback = 0  # multi: silence means that the label does not apply
    covered = votes.covered
    probs = fill_uncovered(probs, covered, uncovered, prior=part.prior, default=fallback)
    _, ties = decide(probs, np.zeros(len(probs), np.uint64))
    return _Table(probs, ties & covered, covered, row)


def _rows(
    solved: list[Solved], tables: list[_Table], part_of: slice, card: TaskCard, names: list[str], uncovered: str
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """`probs` [rows, label numbers], which entries are known (None: all), and ties, for a range of texts."""
    if card.kind == "single":
        pattern = tables[0].row[part_of]
        wide = np.zeros((len(pattern), len(names)), np.float32)
        numbers = sorted(solved[0].problem.class_of, key=lambda number: solved[0].problem.class_of[number])
        wide[:, numbers] = tables[0].probs[pattern]
        return wide, None, tables[0].ties[pattern]
    rows = len(solved[0].pattern[part_of])
    wide, known = np.zeros((rows, len(names)), np.float32), np.zeros((rows, len(names)), bool)
    tie = np.zeros(rows, bool)
    silent_known = uncovered in ("prior", "default")
    for part, table in zip(solved, tables, strict=True):
        pattern, label = table.row[part_of], part.problem.label
        wide[:, label] = table.probs[pattern, 1]
        known[:, label] = (table.covered[pattern] | silent_known) if part.problem.programs else False
        tie |= table.ties[pattern]
    return wide, known, tie
