"""What distillation reads from the warehouse, and the digests that decide whether it must be done again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from factory.distill.curate import Candidates, one_hot
from factory.files.rows import NO_LABEL
from factory.warehouse.tables.gold import gold_texts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from factory.task import TaskCard
    from factory.warehouse.file import Warehouse


@dataclass(frozen=True)
class Classes:
    """The labels a student answers with, in the order of the card.

    Attributes:
        names: Label names.
        numbers: Their numbers in the warehouse.
        multi: Whether a text may have any number of them.
    """

    names: tuple[str, ...]
    numbers: tuple[int, ...]
    multi: bool

    def narrow(self, probs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Columns by label number -> columns of the active labels; rows of a single task sum to 1 again."""
        width = max(self.numbers) + 1
        if probs.shape[1] < width:
            filler = np.full((len(probs), width - probs.shape[1]), np.nan if self.multi else 0.0)
            probs = np.concatenate([probs, filler], axis=1)
        out = probs[:, list(self.numbers)]
        if self.multi:
            return out
        total = out.sum(axis=1, keepdims=True)
        return np.divide(out, total, out=np.full_like(out, np.nan), where=total > 0)

    def widen(self, probs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Columns of the active labels -> columns by label number."""
        out = np.full((len(probs), max(self.numbers) + 1), np.nan if self.multi else 0.0)
        out[:, list(self.numbers)] = probs
        return out


def classes_of(warehouse: Warehouse, card: TaskCard) -> Classes:
    """The active labels in the order of the card."""
    numbers = {name: number for number, name in warehouse.query("SELECT label_no, name FROM labels")}
    names = tuple(card.label_names)
    return Classes(names, tuple(numbers[name] for name in names), card.kind == "multi")


@dataclass(frozen=True)
class LabelModelRow:
    """One label model whose soft labels a student may learn from.

    Attributes:
        number: Its number in `label_models`.
        key: Its identity.
        name: Its name in the table of label models.
        uncovered: What texts without votes were given: `drop`, `prior`, `default`, `ask`.
        chosen: Whether `denoise` chose it without any gold of dev.
    """

    number: int
    key: str
    name: str
    uncovered: str
    chosen: bool


def label_models(warehouse: Warehouse) -> list[LabelModelRow]:
    """The label models with soft labels, the chosen one first."""
    rows = warehouse.query(
        "SELECT label_model_no, key, name, config, chosen FROM label_models m"
        " WHERE EXISTS (SELECT 1 FROM soft_labels s WHERE s.label_model_no = m.label_model_no)"
        " ORDER BY chosen DESC, label_model_no"
    )
    found = []
    for no, key, name, config, chosen in rows:
        facts = json.loads(config) or {}
        fit = bool(chosen) and "student" in facts.get("systems", ["student"])
        found.append(LabelModelRow(no, key, name, str(facts.get("uncovered", "drop")), fit))
    return sorted(found, key=lambda row: (not row.chosen, row.number))


def soft_digest(warehouse: Warehouse, label_model_no: int) -> str:
    """A digest of a label model's soft labels on the texts of train and on synthetic ones."""
    return _digest(
        warehouse,
        "SELECT count(*), bit_xor(md5_number(concat_ws('|', s.text_no, s.probs, s.covered, s.tie)))"
        " FROM soft_labels s WHERE s.label_model_no = ? AND (s.text_no IN"
        " (SELECT text_no FROM split_texts WHERE split = 'train') OR s.text_no IN"
        " (SELECT text_no FROM synthetic WHERE state = 'accepted'))",
        [label_model_no],
    )


def synthetic_digest(warehouse: Warehouse) -> str:
    """A digest of the accepted synthetic texts."""
    return _digest(
        warehouse,
        "SELECT count(*), bit_xor(md5_number(concat_ws('|', synthetic_no, text_no, label_no))) FROM synthetic"
        " WHERE state = 'accepted' AND text_no IS NOT NULL",
    )


def _digest(warehouse: Warehouse, sql: str, parameters: Sequence[Any] | None = None) -> str:
    count, mixed = warehouse.query(sql, parameters)[0]
    return f"{count}:{mixed or 0:x}"


def corpus_candidates(warehouse: Warehouse, label_model: LabelModelRow, classes: Classes) -> Candidates:
    """The texts of train with a label model's soft labels."""
    numbers, probs, covered, tie = _soft(
        warehouse, label_model.number, "SELECT text_no FROM split_texts WHERE split = 'train'"
    )
    return Candidates("corpus", numbers, classes.narrow(probs), covered, tie)


def votes_on_synthetic(
    warehouse: Warehouse, label_model: LabelModelRow, classes: Classes
) -> dict[int, NDArray[np.float64]]:
    """text_no -> what the label model makes of a covered synthetic text, [k]."""
    numbers, probs, covered, _ = _soft(
        warehouse, label_model.number, "SELECT text_no FROM synthetic WHERE state = 'accepted'"
    )
    narrowed = classes.narrow(probs) if len(numbers) else probs
    return {int(no): row for no, row, there in zip(numbers, narrowed, covered, strict=True) if there}


def synthetic_candidates(warehouse: Warehouse, classes: Classes, smoothing: float) -> Candidates | None:
    """The accepted synthetic texts with the label they were written for; None if there are none."""
    rows = warehouse.query(
        "SELECT text_no, label_no FROM synthetic WHERE state = 'accepted' AND text_no IS NOT NULL"
        " AND label_no IN (SELECT unnest(?)) ORDER BY synthetic_no",
        [list(classes.numbers)],
    )
    return None if not rows else _given("synthetic", rows, classes, smoothing)


def seed_candidates(warehouse: Warehouse, classes: Classes) -> Candidates | None:
    """The seeds with their gold; None if there are none."""
    rows = _gold(warehouse, "seed", classes)
    return None if not rows else _given("seed", rows, classes, 0.0)


def dev_gold(warehouse: Warehouse, classes: Classes) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The texts of dev and their gold: int64 [n], float64 [n, k] of 0 and 1."""
    rows = _gold(warehouse, "dev", classes)
    if not rows:
        return np.zeros(0, np.int64), np.zeros((0, len(classes.names)))
    given = _given("dev", rows, classes, 0.0)
    return given.text_nos, given.probs


def _gold(warehouse: Warehouse, split: str, classes: Classes) -> list[tuple[int, int]]:
    pairs = []
    for text in sorted(gold_texts(warehouse, split), key=lambda text: text.text_no):
        pairs += [(text.text_no, label) for label in text.labels if label in classes.numbers]
        if classes.multi and not text.labels:
            pairs.append((text.text_no, NO_LABEL))
    return pairs


def _given(origin: str, rows: Sequence[tuple[int, int]], classes: Classes, smoothing: float) -> Candidates:
    column = {number: index for index, number in enumerate(classes.numbers)}
    if not classes.multi:
        first: dict[int, int] = {}
        for text_no, label_no in rows:
            first.setdefault(int(text_no), column[int(label_no)])
        probs = one_hot(list(first.values()), len(classes.names), smoothing)
        return Candidates.labelled(origin, list(first), probs)
    held: dict[int, set[int]] = {}
    for text_no, label_no in rows:
        held.setdefault(int(text_no), set()).update({column[int(label_no)]} if label_no >= 0 else set())
    probs = np.zeros((len(held), len(classes.names)))
    for row, labels in enumerate(held.values()):
        probs[row, list(labels)] = 1.0
        if origin == "synthetic":
            probs[row, [label for label in range(probs.shape[1]) if label not in labels]] = np.nan
    return Candidates.labelled(origin, list(held), probs)


def _soft(
    warehouse: Warehouse, label_model_no: int, texts: str
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
    table = warehouse.arrow(
        f"SELECT text_no, probs, covered, tie FROM soft_labels WHERE label_model_no = ? AND text_no IN ({texts})"
        " ORDER BY text_no",
        [label_model_no],
    )
    n = table.num_rows
    if n == 0:
        return np.zeros(0, np.int64), np.zeros((0, 0)), np.zeros(0, bool), np.zeros(0, bool)
    flat = table.column("probs").combine_chunks().flatten()
    probs = np.asarray(flat.to_numpy(zero_copy_only=False), np.float64).reshape(n, -1)
    covered = np.asarray(table.column("covered").to_numpy(zero_copy_only=False), bool)
    tie = np.asarray(table.column("tie").to_numpy(zero_copy_only=False), bool)
    return np.asarray(table.column("text_no"), np.int64), probs, covered, tie
