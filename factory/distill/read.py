"""What distillation reads from the warehouse, and the digests that decide whether it must be done again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from factory.distill.curate import Candidates, one_hot
from factory.files.rows import NO_LABEL
from factory.warehouse.tables.gold import gold_texts
from factory.warehouse.tables.labels import MIXTURE as MIXTURE
from factory.warehouse.tables.labels import LabelModelRow as LabelModelRow
from factory.warehouse.tables.labels import label_models as label_models
from factory.warehouse.tables.labels import soft_digest as soft_digest
from factory.warehouse.tables.labels import soft_labels

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
        shares: NDArray[np.float64] = np.divide(out, total, out=np.full_like(out, np.nan), where=total > 0)
        return shares

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


def synthetic_digest(warehouse: Warehouse) -> str:
    """A digest of the accepted synthetic texts."""
    count, mixed = warehouse.query(
        "SELECT count(*), bit_xor(md5_number(concat_ws('|', synthetic_no, text_no, label_no))) FROM synthetic"
        " WHERE state = 'accepted' AND text_no IS NOT NULL"
    )[0]
    return f"{count}:{mixed or 0:x}"


def corpus_candidates(warehouse: Warehouse, label_model: LabelModelRow, classes: Classes) -> Candidates:
    """The texts of train with a label model's soft labels."""
    soft = soft_labels(warehouse, label_model.number, split="train")
    return Candidates("corpus", soft.text_nos, classes.narrow(soft.probs), soft.covered, soft.tie)


def votes_on_synthetic(
    warehouse: Warehouse, label_model: LabelModelRow, classes: Classes
) -> dict[int, NDArray[np.float64]]:
    """text_no -> what the label model makes of a covered synthetic text, [k]."""
    accepted = [number for (number,) in warehouse.query("SELECT text_no FROM synthetic WHERE state = 'accepted'")]
    soft = soft_labels(warehouse, label_model.number, text_nos=[number for number in accepted if number is not None])
    narrowed = classes.narrow(soft.probs) if len(soft) else soft.probs
    return {int(no): row for no, row, there in zip(soft.text_nos, narrowed, soft.covered, strict=True) if there}


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
